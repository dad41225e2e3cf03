"""Doubles for your tests and ours: an engine without a model, random checkpoints, recorded graphs.

None of it is needed to speak. The engine ``fake`` speaks tones, holds, hangs and fails on order;
the ``random_*`` modules write checkpoints in the published formats with random weights, so that
real loading code runs where no weights can be had; ``recorded_graphs`` replays on a CPU what would
be captured on a GPU; ``server`` starts a server of its own process.
"""
