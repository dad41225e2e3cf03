"""Building blocks of transformer decoders in PyTorch, shared by the engines that run one.

Every block is batch-first and works on fixed buffers: shapes never depend on data, so one function
built from them runs eagerly, compiled, or captured as a CUDA graph.
"""
