"""How much longer speech may take because of how it is to be spoken.

A bound on the length of speech guards against a model that does not stop. It must never cut what
was asked for: a model that is told to speak very slowly takes three times as long as usual.
Whatever a style is, it may mean long pauses, so any leaves some room.
"""

from __future__ import annotations

import re

SLOW_ROOM = 3.0
"""Where the words ask for a slow reading, in one of the languages that instructed models speak."""

STYLE_ROOM = 1.5
"""For any other instructions: sobbing, laughter and whispers take their time, too."""

_SLOW = re.compile(
    r"\b(?:slow|unhurried|leisurely|drawl|drawn[- ]out|halting|hesita|sluggish|languid|pauses?\b|"
    r"pausing|dramatic|meditat|hypno|lullaby|bedtime|drows|sleepy|exhausted|dictat|syllable|"
    r"letter by letter|word by word|pace yourself|take (?:your|his|her|their) time|"
    r"langsam|gemächlich|schleppend|zögern|lent|posément|despacio|pausad|devagar|adagio|"
    r"медленн|неторопли|протяжн)"
    r"|慢|缓|緩|ゆっくり|のんびり|천천히|느리|느린",
    re.IGNORECASE,
)


def style_room(instructions: str | None) -> float:
    """What to multiply the longest usual duration of a text by; 1 without instructions."""
    if instructions is None or not instructions.strip():
        return 1.0
    return SLOW_ROOM if _SLOW.search(instructions) else STYLE_ROOM
