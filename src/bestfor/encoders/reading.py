"""Look how well an encoder reads texts: tokens that its vocabulary lacks, and texts that are longer than it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNKNOWN = 0.1
"""Share of unknown tokens from which something is said."""
MOST = 2_000
"""Texts that are looked at, evenly spread."""


@dataclass(frozen=True)
class TokenCounts:
    """Counts of what an encoder's tokenizer made of texts.

    Attributes:
        tokens: how many in all.
        unknown: of these, tokens that stand for what the vocabulary lacks.
        texts: how many were looked at.
        cut: of these, texts of more tokens than the encoder reads.
        limit: the most tokens it reads of a text.
    """

    tokens: int
    unknown: int
    texts: int
    cut: int
    limit: int


def reading_notes(encoder: object, texts: Sequence[str]) -> tuple[str, ...]:
    """Say what an encoder cannot read of texts; of encoders that do not count, nothing is known.

    Args:
        encoder: perhaps behind a cache; one with a method ``reading``.
        texts: in any order; at most :data:`MOST` of them are looked at, the same ones for the same texts.
    """
    inner = getattr(encoder, "encoder", encoder)
    read: Callable[[Sequence[str]], TokenCounts] | None = getattr(inner, "reading", None)
    if read is None:
        return ()
    ordered = sorted({text for text in texts if text.strip()})
    step = max(1, -(-len(ordered) // MOST))
    found = read(ordered[::step])
    name = getattr(inner, "name", "the encoder")
    said = []
    if found.unknown > UNKNOWN * found.tokens:
        said.append(
            f"{found.unknown / found.tokens:.0%} of all tokens are unknown to {name}: choose an encoder that knows the "
            "language of the texts, such as a multilingual one"
        )
    if found.cut:
        longer = f"{found.cut} of {found.texts} texts are longer than the {found.limit} tokens that {name} reads"
        said.append(f"{longer}: their ends are not seen")
    return tuple(said)
