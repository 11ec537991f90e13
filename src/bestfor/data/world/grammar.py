"""Draw facts, render them as an input, and put them into words in many moods by a combinatorial grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bestfor.data.world import phrases
from bestfor.errors import InputError

Task = Literal["headline", "review"]

FIELDS: dict[str, dict[str, tuple[str, ...] | list[str]]] = {
    "headline": {
        "place": phrases.PLACES,
        "event": phrases.EVENTS,
        "count": phrases.COUNTS,
        "day": phrases.DAYS,
    },
    "review": {
        "thing": phrases.THINGS,
        "good": phrases.PARTS,
        "bad": phrases.PARTS,
        "price": phrases.PRICES,
        "weeks": phrases.WEEKS,
    },
}
"""The facts of each task and the values they are drawn from."""

_KNOWN_PARTS = re.compile(r"^\s*(\w+)\s*:\s*(.+?)\s*$")


@dataclass(frozen=True)
class Facts:
    """Facts that a text is to state.

    Attributes:
        task: ``"headline"`` or ``"review"``.
        values: name and value of every fact, in the order of ``FIELDS``.
    """

    task: Task
    values: tuple[tuple[str, str], ...]

    def render(self) -> str:
        """Render the facts as a query's input: ``"headline | place: Oakmere | event: harvest fair | ..."``."""
        return " | ".join((self.task, *(f"{name}: {value}" for name, value in self.values)))

    def as_dict(self) -> dict[str, str]:
        """Give the facts by name."""
        return dict(self.values)


def parse(text: str) -> Facts:
    """Read an input back into facts.

    Raises:
        InputError: the text is not the rendering of a task's facts.
    """
    head, *parts = text.split("|")
    task = head.strip()
    if task not in FIELDS:
        raise InputError("input of the embedded world", f"'{text[:60]}'", "'headline | ...' or 'review | ...'")
    matches = [_KNOWN_PARTS.match(part) for part in parts]
    values = tuple((match.group(1), match.group(2)) for match in matches if match)
    if tuple(name for name, _ in values) != tuple(FIELDS[task]) or len(values) != len(parts):
        raise InputError("input of the embedded world", f"'{text[:60]}'", "the facts " + ", ".join(FIELDS[task]))
    return Facts("headline" if task == "headline" else "review", values)


def draw_facts(task: Task, *, rng: np.random.Generator) -> Facts:
    """Draw facts at random; a review's good and bad part always differ."""
    values = {name: options[int(rng.integers(len(options)))] for name, options in FIELDS[task].items()}
    if task == "review" and values["good"] == values["bad"]:
        values["bad"] = phrases.PARTS[(phrases.PARTS.index(values["good"]) + 1) % len(phrases.PARTS)]
    return Facts(task, tuple(values.items()))


@dataclass(frozen=True)
class Mood:
    """Manner of a text: each field picks phrases."""

    register: Literal["formal", "plain", "casual"]
    energy: Literal["calm", "even", "keen"]
    detail: Literal["vague", "some", "full"]
    length: Literal["short", "middle", "long"]
    quips: bool


def draw_mood(*, rng: np.random.Generator) -> Mood:
    """Draw a mood at random, as :func:`write` draws it."""
    return _draw_mood(iter(rng.random(5).tolist()))


def write(facts: Facts, *, rng: np.random.Generator, mood: Mood | None = None) -> str:
    """Write one text about the facts, in the mood given or in one of its own."""
    writer = _Writer(facts.as_dict(), rng, mood)
    return writer.headline() if facts.task == "headline" else writer.review()


class _Writer(dict[str, str]):
    """Filler of the slots of phrases: one mood per text, one draw per slot."""

    def __init__(self, facts: dict[str, str], rng: np.random.Generator, mood: Mood | None) -> None:
        super().__init__(facts)
        self._draws = iter(rng.random(160).tolist())
        self._task = phrases.REVIEW if "thing" in facts else phrases.HEADLINE
        mood = mood or _draw_mood(self._draws)
        self._register, self._energy, self._detail = mood.register, mood.energy, mood.detail
        self._length, self._quips = mood.length, mood.quips

    def __missing__(self, slot: str) -> str:
        text = self._fill(slot)
        return text[:1].upper() + text[1:] if slot[0].isupper() else text

    def headline(self) -> str:
        short = self._length == "short"
        text = self._expand("short" if short else "core")
        if not short and self._chance(0.75 if self._length == "long" else 0.3):
            text = f"{self._expand('opener.' + self._mood())}: {text}"
        if self._length == "long":
            text += " " + self._expand("filler." + self._register)
        if self._chance(0.25 if short else 0.55):
            text += ", " + self._expand("tail." + self._mood())
        if self._quips:
            text += self._expand("joint")
        text = re.sub(r"\s+", " ", text).strip()
        return text[:1].upper() + text[1:] + self._mark()

    def review(self) -> str:
        good = "keen" if self._energy == "keen" and self._chance(0.6) else self._register
        bad = "calm" if self._energy == "calm" and self._chance(0.5) else self._register
        parts = ["open." + self._register, "good." + good]
        parts += ["bad." + bad] if self._chance(0.93) else []
        if self._length != "short" or self._detail == "full":
            parts.insert(self._at(1, 2), "use." + self._register)
        if self._length == "long":
            parts.insert(self._at(2, 4), "filler." + self._register)
        if self._detail == "vague" and self._chance(0.6):
            parts.append("filler.vague")
        if self._energy != "even":
            parts.insert(self._at(2, len(parts)), "mood." + self._energy)
        if self._quips:
            parts.append("quip")
        if self._length != "short" or self._chance(0.4):
            parts.append("verdict." + self._register)
        return " ".join(self._expand(part) for part in parts)

    def _fill(self, slot: str) -> str:
        name = slot.lower()
        if name in phrases.QUIP:
            return self._expand(name, phrases.QUIP)
        if name == "eventnp":
            return self._event()
        if name == "crowdn":
            return self._crowd()
        if name in ("where", "when", "cost", "span"):
            return self._optional(name)
        if name == "crowd":
            return self._expand("crowd") if self._detail == "full" or self._chance(0.4) else ""
        return self._expand(f"{name}.{self._register}")

    def _event(self) -> str:
        energy = self._energy if self._energy != "even" and self._chance(0.65) else self._register
        return f"{self._expand('kind.' + energy)} {self['event']}" if self._chance(0.7) else self["event"]

    def _crowd(self) -> str:
        people = self._expand("people." + self._register)
        if self._detail == "vague" or (self._detail == "some" and self._chance(0.35)):
            return f"{self._expand('some')} {people}"
        return f"{self['count']} {people}"

    def _optional(self, name: str) -> str:
        if self._detail == "vague":
            return self._expand(name + ".vague") if name in ("where", "span") or self._chance(0.6) else ""
        stated = self._detail == "full" or name in ("where", "span") or self._chance(0.5)
        return self._expand(name) if stated else ""

    def _mood(self) -> str:
        return self._energy if self._energy != "even" and self._chance(0.6) else self._register

    def _mark(self) -> str:
        if self._energy != "keen":
            return ""
        return "!!" if self._chance(0.25) else "!" if self._chance(0.7) else ""

    def _expand(self, key: str, table: dict[str, tuple[str, ...]] | None = None) -> str:
        options = (table or self._task)[key]
        return options[int(next(self._draws) * len(options))].format_map(self)

    def _chance(self, share: float) -> bool:
        return next(self._draws) < share

    def _at(self, low: int, high: int) -> int:
        return low + int(next(self._draws) * (high - low + 1))


def _draw_mood(draws: Iterator[float]) -> Mood:
    register, energy, detail, length, quips = (next(draws) for _ in range(5))
    return Mood(
        register="formal" if register < 0.33 else "plain" if register < 0.67 else "casual",
        energy="calm" if energy < 0.28 else "even" if energy < 0.6 else "keen",
        detail="vague" if detail < 0.3 else "some" if detail < 0.55 else "full",
        length="short" if length < 0.33 else "middle" if length < 0.7 else "long",
        quips=quips < 0.42,
    )
