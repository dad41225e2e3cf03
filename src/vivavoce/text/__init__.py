"""Text: from what was written to clauses that can be spoken. Pure Python."""

from vivavoce.text.duration import expected_duration_s, max_duration_s
from vivavoce.text.frontend import Frontend, TextOptions, clauses, is_speakable
from vivavoce.text.group import grouped
from vivavoce.text.lexicon import Lexicon
from vivavoce.text.sanitize import sanitize
from vivavoce.text.segment import Piece, Segmenter
from vivavoce.text.ssml import parse_ssml

__all__ = [
    "Frontend",
    "Lexicon",
    "Piece",
    "Segmenter",
    "TextOptions",
    "clauses",
    "expected_duration_s",
    "grouped",
    "is_speakable",
    "max_duration_s",
    "sanitize",
    "parse_ssml",
]
