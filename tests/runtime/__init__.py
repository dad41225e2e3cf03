"""Processes that work apart, and what they may do to each other: nothing."""
