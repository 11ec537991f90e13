"""When two texts are one: the same characters however composed, the same words however spaced."""

from __future__ import annotations

import unicodedata


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC, UAX #15): equal characters have equal codes."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    """The composed text with single spaces: what decides whether an item is a question that is asked."""
    return " ".join(composed(text).split())
