"""The machine room: processes that work apart. No engine's name is in it."""
