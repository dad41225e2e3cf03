"""From a recording to codes: the two published encoders, in PyTorch.

Needed once for each voice, so it runs in a process of its own that gives its memory back.
"""
