"""Ratings and preferences of one person, as reward models learn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

JOURNAL = "\x1fjournal"
"""Ends the name under which a fit learns what a person said where persons learn it again: no plain id can end so."""


@dataclass(frozen=True, order=True)
class Rated:
    """A text's utility for a person.

    Attributes:
        prompt: what was asked; empty where bare texts are rated.
        text: the text.
        utility: its utility, in the units of the model's labels.
        weight: the label's precision over that of an ordinary rating; 1 is an ordinary rating, weak signals have less.
    """

    prompt: str
    text: str
    utility: float
    weight: float = 1.0


@dataclass(frozen=True, order=True)
class Preferred:
    """A text that a person prefers to another one for the same prompt.

    Attributes:
        prompt: what was asked; empty where bare texts are compared.
        better: the text that was preferred.
        worse: the other one.
        weight: the label's precision over that of an ordinary preference.
    """

    prompt: str
    better: str
    worse: str
    weight: float = 1.0


@dataclass(frozen=True)
class Labels:
    """Everything that one person said, in any order: models sort it, so portions and order change nothing.

    Attributes:
        rated: utilities of texts.
        preferred: preferences between texts.
    """

    rated: tuple[Rated, ...] = ()
    preferred: tuple[Preferred, ...] = ()

    def __len__(self) -> int:
        return len(self.rated) + len(self.preferred)

    def keep(self, wanted: Callable[[str, str], bool]) -> Labels:
        """Keep the labels all of whose texts are wanted, asked by prompt and text."""
        rated = tuple(one for one in self.rated if wanted(one.prompt, one.text))
        both = (one for one in self.preferred if wanted(one.prompt, one.better) and wanted(one.prompt, one.worse))
        return Labels(rated, tuple(both))

    def __add__(self, other: Labels) -> Labels:
        return Labels(self.rated + other.rated, self.preferred + other.preferred)
