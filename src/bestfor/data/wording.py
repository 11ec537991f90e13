"""How a benchmark words its questions and prompts, written and read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Wording:
    """A text with named slots, written and read back.

    Attributes:
        text: for example ``"Generate a title for the following abstract of a paper: {abstract}"``.
    """

    text: str

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots, in order."""
        return tuple(_SLOT.findall(self.text))

    def write(self, values: Mapping[str, str]) -> str:
        """Fill the slots; values are taken as they are, braces included."""
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)

    def read(self, text: str) -> dict[str, str] | None:
        """What fills the slots of a text, None where it is worded otherwise; white space may differ."""
        found = self._pattern.fullmatch(text.strip())
        return None if found is None else found.groupdict()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = _SLOT.split(self.text.strip())
        words = [f"(?P<{part}>.*?)" if at % 2 else _loosely(part) for at, part in enumerate(parts)]
        return re.compile("".join(words), re.DOTALL)


def _loosely(words: str) -> str:
    """A pattern of words with any white space between them (a line's end stays one), and perhaps none at their end."""
    parts = re.split(r"(\s+)", words)
    spaces = [r"\s*\n\s*" if "\n" in part else r"\s+" for part in parts[1::2]]
    if spaces and parts[-1] == "" and spaces[-1] == r"\s+":
        spaces[-1] = r"\s*"
    return "".join(re.escape(word) + space for word, space in zip(parts[::2], [*spaces, ""], strict=True))


@dataclass(frozen=True)
class Asking:
    """How one thing is asked: in the benchmark's words, and as a plain input without instruction.

    Attributes:
        published: the benchmark's wording of a question.
        plain: what is kept as a query's or an item's input.
    """

    published: Wording
    plain: Wording


@dataclass(frozen=True)
class Task:
    """A task of a benchmark.

    Attributes:
        name: as the benchmark's files of outputs name it.
        kind: names the template in our own words, see :mod:`bestfor.policies.prompts`.
        askings: wordings of questions; the last is that of history items.
        output: of an item's fields, what the user wrote.
        shown: an item within the benchmark's prompt.
        around: the benchmark's prompt of ``{items}`` and ``{question}``; empty where items are put into the question.
        user: the field of a row that names its user, where the files have one.
        labelled: whether history items are questions of the task's kind: if not, they are shown and never asked.
        metric: what a run measures where it names no metric.
        labels: the only answers, where these are fixed.
    """

    name: str
    kind: str
    askings: tuple[Asking, ...]
    output: Wording
    shown: Wording
    around: Wording = field(default_factory=lambda: Wording("{items}. {question}"))
    user: str = "user_id"
    labelled: bool = True
    metric: str = "rougeL"
    labels: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that an item must have."""
        asked = self.askings[-1].plain.slots if self.labelled else ()
        return tuple(dict.fromkeys([*asked, *self.output.slots]))

    def plain(self, question: str) -> str:
        """A published question without its instruction; a question in other words as it is."""
        for asking in self.askings:
            values = asking.published.read(question)
            if values is not None:
                return asking.plain.write(values)
        return question

    def published(self, plain: str) -> str:
        """The benchmark's question of a plain input."""
        for asking in self.askings:
            values = asking.plain.read(plain)
            if values is not None:
                return asking.published.write({"labels": ", ".join(self.labels), **values})
        return plain

    def item(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Input and output of a history item of these fields; an item that was not asked for has an empty input."""
        asked = self.askings[-1].plain.write(values) if self.labelled else ""
        return asked, self.output.write(values)

    def prompt(self, items: list[tuple[str, str]], plain: str) -> str:
        """The benchmark's prompt: items, the one that matters most first, and the question."""
        question = self.published(plain)
        if not items:
            return question
        joined = ", and ".join(self._shown(*item) for item in items)
        if self.around.text:
            return self.around.write({"items": joined, "question": question})
        before, mark, after = question.partition("title")
        return f"{before}{mark}, and {joined}{after}" if mark else question

    def _shown(self, asked: str, wrote: str) -> str:
        values = dict.fromkeys(self.shown.slots, wrote)
        values |= (self.askings[-1].plain.read(asked) or {}) if self.labelled else {}
        return self.shown.write(values | (self.output.read(wrote) or {}))
