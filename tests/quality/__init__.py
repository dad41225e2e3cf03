"""How the speech sounds: recognition round trips, seams, and what bad input does."""
