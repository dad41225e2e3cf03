"""Ways to hold the weights of a talker, to be compared with each other."""
