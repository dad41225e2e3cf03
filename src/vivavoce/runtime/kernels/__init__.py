"""Kernels for decoding a few rows at a time, each beside its plain PyTorch path.

``chooser.chosen`` gives a ``Kernels``: Triton where the device takes it, PyTorch elsewhere. Nothing
here synchronizes with the host, so that either can be captured as part of a CUDA graph.
"""
