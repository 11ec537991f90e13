"""Define what an export says of an answer, what is wanted of it, and how it becomes labels of a journal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bestfor.data.read.cells import NULLS, word_value
from bestfor.errors import InputError
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.labels.scale import WEIGHTS

Score = float | bool | str

OWN = "bestfor"
"""Name of tables that a journal itself was written to; their keys stay as they are."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer that somebody was shown elsewhere.

    Attributes:
        id: names it in the export.
        user: who asked; None where the export does not say.
        prompt: what was asked.
        texts: the candidates, of which the first was shown.
        time: seconds since 1970, None where it is not known.
    """

    id: str
    user: str | None
    prompt: str
    texts: tuple[str, ...]
    time: float | None = None


@dataclass(frozen=True, slots=True)
class GivenScore:
    """Statement on an answer, in one record of an export.

    Attributes:
        about: ids of the answer (:attr:`ShownAnswer.id`), of which the first that is known counts.
        key: names the record.
        name: what was judged ("helpfulness"), "" where nothing was named.
        score: a number, yes or no, or a word; None where there is none.
        scale: lowest and highest number that the record itself declares.
        signal: ``kept`` or ``dismissed`` where the answer was used or thrown away, else "".
        rankings: texts that were compared, best first.
        edit: what the person made of the answer.
        comment: words.
        user: who said it; None takes the one who asked.
        time: seconds since 1970.
        human: whether a person said it.
        where: place of the record, for errors.
    """

    about: tuple[str, ...]
    key: str
    name: str = ""
    score: Score | None = None
    scale: tuple[float, float] | None = None
    signal: str = ""
    rankings: tuple[tuple[str, ...], ...] = ()
    edit: str | None = None
    comment: str | None = None
    user: str | None = None
    time: float | None = None
    human: bool = True
    where: str = ""


@dataclass(frozen=True)
class ImportOptions:
    """Choice of what is taken of an export, and of how its numbers are read.

    Attributes:
        names: which scores count; where there are none, the only one that people gave.
        scale: lowest and highest number of ratings; None where the export says so, or where they are thumbs.
        words: numbers of categories, 1 for liked and 0 for not, beside those that everybody knows.
        automatic: whether scores of models and programs count as well.
        tenant: whose journal it becomes part of.
    """

    names: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None
    words: Mapping[str, float] = field(default_factory=dict)
    automatic: bool = False
    tenant: str = ""

    def __post_init__(self) -> None:
        """Check the scale.

        Raises:
            InputError: its lower end is not below its upper one.
        """
        if self.scale is not None and not (self.scale[0] < self.scale[1] and all(map(math.isfinite, self.scale))):
            raise InputError("--scale", f"{self.scale[0]:g}:{self.scale[1]:g}", "LOW:HIGH, the lower number first")


def read_score(score: Score, options: ImportOptions) -> float | bool | None:
    """Read a score as a number, or as yes or no; None where it is a word that nobody declared."""
    if isinstance(score, bool | int | float):
        return score
    word = score.strip()
    if word.lower() in options.words:
        return options.words[word.lower()]
    try:
        number = float(word)
    except ValueError:
        known = word_value(word)
        return None if known is None else bool(known)
    return number if math.isfinite(number) else None


def is_thumb(value: float | bool) -> bool:
    """Tell whether a score can be read as yes or no without a scale."""
    return isinstance(value, bool) or value in (-1, 0, 1)


def labels_of(
    given: GivenScore, shown: ShownAnswer, value: float | bool | None, options: ImportOptions, source: str
) -> tuple[LoggedAnswer | None, list[Label]]:
    """Turn what was said into labels of a journal, and the answer that they need.

    Args:
        given: the record.
        shown: the answer that it is about.
        value: its score as :func:`read_score` gives it; None where it has none.
        options: scale and tenant.
        source: name of the tool, which keeps keys of two tools apart.

    Returns:
        The answer, where an edit needs it to compare its candidates with, and labels with keys of their own.

    Raises:
        InputError: a number outside its scale, an empty text, or a text preferred to itself.
    """
    user = str(shown.user if given.user is None else given.user)
    key = given.key if source == OWN else f"{source}:{given.key}"
    when, prompt, text = given.time or shown.time or 0.0, shown.prompt, shown.texts[0]
    answer = None
    made: list[Label] = []

    def make(kind: str, suffix: str, texts: tuple[str, ...], **values: Any) -> None:  # noqa: ANN401 - of a label
        place = key if source == OWN else key + suffix
        made.append(Label(place, user, kind, texts=texts, prompt=prompt, weight=WEIGHTS[kind], time=when, **values))

    if value is not None:
        scale = options.scale or given.scale
        if scale is None:
            make("thumb", "", (text,), value=float(value > 0))
        else:
            number = scale[int(value)] if isinstance(value, bool) else in_scale(value, scale, given.where)
            make("rating", "", (text,), value=number, low=scale[0], high=scale[1])
    if given.signal:
        make(given.signal, f":{given.signal}", (text,), value=1.0)
    for number, texts in enumerate(given.rankings):
        if len(set(texts)) == len(texts) > 1:
            make("preference", f":ranking{number}", texts)
    if given.comment and given.comment.strip():
        make("comment", ":comment", (given.comment, text))
    if given.edit is not None and given.edit.strip():
        answer = _answer(shown, user, source, when)
        prompt = ""  # the answer knows it
        make("edit", ":edit", (given.edit,), answer=answer.id)
    return answer, made


def check_scores(names: Iterable[str], options: ImportOptions) -> None:
    """Refuse scores of several names where none was chosen, and names that are not there.

    Raises:
        InputError: as said.
    """
    found = sorted(names)
    missing = [name for name in options.names if name not in found]
    if missing:
        raise InputError("--score", f"'{missing[0]}'", f"one of {', '.join(found) or 'the scores that people gave'}")
    if not options.names and len(found) > 1:
        raise InputError("--score", f"scores of several names ({', '.join(found)})", "which of them count")


def in_scale(value: float, scale: tuple[float, float], where: str) -> float:
    """Check a number against its scale.

    Raises:
        InputError: it lies outside.
    """
    low, high = scale
    if not low <= value <= high:
        raise InputError(where, f"a score of {value:g}", f"a number from {low:g} to {high:g}, the scale")
    return float(value)


def _answer(shown: ShownAnswer, user: str, source: str, time: float) -> LoggedAnswer:
    """Make an answer of what was shown elsewhere; nobody knows its rewards and its rule."""
    texts = tuple(dict.fromkeys(shown.texts))
    chances = (1.0, *[0.0] * (len(texts) - 1))
    nothing = (None,) * len(texts)
    id = shown.id if source == OWN else f"{source}:{shown.id}"
    when = shown.time or time
    return LoggedAnswer(id, user, shown.prompt, texts, nothing, None, chances, 0, "imported", "", source, None, when)


def is_missing(value: object) -> bool:
    """Tell whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and value.strip() in NULLS)
