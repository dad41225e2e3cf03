"""Work captured once and replayed, streams beside each other, and host copies without waiting.

``api`` says what is needed of a device; ``cuda`` gives it on CUDA, ``testing.recorded_graphs``
stands in for it where there is none and finds what a device would make silently wrong. An engine
holds ``Captures`` for each stream it replays on, and a ``HostRing`` for what the host reads.
"""
