"""Clients that speak one text and record what came back, over HTTP or WebSocket."""

from __future__ import annotations

from vivavoce.bench.clients.base import Speaker, Target
from vivavoce.bench.clients.http import HttpSpeaker
from vivavoce.bench.clients.websocket import WebSocketSpeaker

__all__ = ["HttpSpeaker", "Speaker", "Target", "WebSocketSpeaker", "open_speaker"]


def open_speaker(target: Target) -> Speaker:
    """The client for the target's transport; close it with ``aclose``."""
    return WebSocketSpeaker(target) if target.transport == "ws" else HttpSpeaker(target)
