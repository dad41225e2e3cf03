"""A server whose event loop is watched, and light callers, for the scripts beside this folder."""
