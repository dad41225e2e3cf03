"""Measuring a speech server as its callers hear it.

``texts`` and ``arrivals`` say what is asked and when, ``clients`` ask it over HTTP or WebSocket,
``playback`` says what a listener would have heard, ``measures`` and ``stats`` turn that into
figures, ``runner`` and ``find_max`` put load on, ``report`` writes it down.
"""
