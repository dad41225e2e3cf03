"""The machine room: libraries set up and processes that work apart. No engine's name is in it."""
