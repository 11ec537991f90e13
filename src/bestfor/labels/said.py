"""Read what a person says as a label: its kind, and what is wrong with it.

What is learned of each kind is in :mod:`bestfor.labels.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from bestfor.data.labels import Labels
from bestfor.errors import InputError, nearest
from bestfor.labels.kinds import LEARNED, nothing
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.labels.scale import LabelScale


class Statement(TypedDict, total=False):
    """Statement of a person on an answer or a text: exactly one of these.

    Attributes:
        rating: a number on the declared scale.
        thumb: yes or no.
        prefer: texts or indices of candidates, best first; a single one is preferred to the shown text.
        edit: what the person finally wrote.
        kept: True where the shown text was used as it was.
        dismissed: True where it was thrown away.
        comment: words, which are kept and shown, not learned from.
    """

    rating: float
    thumb: bool
    prefer: int | str | Sequence[int | str]
    edit: str
    kept: bool
    dismissed: bool
    comment: str


@dataclass(frozen=True)
class LabelKind:
    """A kind of labels.

    Attributes:
        name: as it is typed.
        learned: whether models learn from it.
        read: checks what was said and gives the label's ``value`` and ``texts``.
        records: what is learned of a stored label.
    """

    name: str
    learned: bool
    read: Callable[[Any, str | None, LoggedAnswer | None, LabelScale], tuple[float | None, tuple[str, ...]]]
    records: Callable[[Label, LoggedAnswer | None, LabelScale], Labels]


def read_said(said: Statement) -> tuple[LabelKind, Any]:
    """Find the kind of what was said.

    Raises:
        InputError: nothing, several things, or an unknown one.
    """
    given = {name: value for name, value in said.items() if value is not None}
    unknown = next((name for name in given if name not in ALIASES), None)
    if unknown is not None:
        raise InputError("label", f"'{unknown}'", nearest(unknown, ALIASES))
    if len(given) != 1:
        found = f"{', '.join(given)} at once" if given else "nothing that was said"
        raise InputError("label", found, f"one of {', '.join(ALIASES)}")
    ((name, value),) = given.items()
    return KINDS[ALIASES[name]], value


def read_number(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a rating: a number on the declared scale.

    Raises:
        InputError: no number, or one outside the scale.
    """
    low, high = scale.rating
    if isinstance(said, bool) or not isinstance(said, int | float | np.number) or not low <= float(said) <= high:
        raise InputError("rating", f"{said!r}", f"a number from {low:g} to {high:g}, the declared scale")
    return float(said), (_about(text, answer),)


def read_yes(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a thumb: yes or no.

    Raises:
        InputError: neither.
    """
    if said not in (True, False, 0, 1) or isinstance(said, str):
        raise InputError("thumb", f"{said!r}", "True or False")
    return float(bool(said)), (_about(text, answer),)


def read_true(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a signal that is there or is not.

    Raises:
        InputError: anything but True.
    """
    if said is not True:
        raise InputError("kept or dismissed", f"{said!r}", "True (withdraw(key) takes it back)")
    return 1.0, (_about(text, answer),)


def read_ranking(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a preference: texts, best first.

    Raises:
        InputError: fewer than two texts, one text twice, or an index that no candidate has.
    """
    given = [said] if isinstance(said, str | int | np.integer) else list(said)
    texts = [_candidate(one, answer) for one in given]
    if len(texts) == 1 and (answer is not None or text is not None):
        texts.append(_about(text, answer))
    if len(texts) < 2:
        raise InputError("prefer", f"{len(texts)} texts", "two texts or more, best first")
    twice = next((one for place, one in enumerate(texts) if one in texts[:place]), None)
    if twice is not None:
        raise InputError("prefer", f"a text preferred to itself ('{twice[:40]}')", "texts that differ, best first")
    return None, tuple(texts)


def read_final(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read an edit: what the person finally wrote.

    Raises:
        InputError: no text, or no answer whose candidates are compared with it.
    """
    if answer is None:
        raise InputError("edit", "no answer", "the id of the answer that was edited")
    if not isinstance(said, str) or not said.strip():
        raise InputError("edit", "no text" if isinstance(said, str) else f"{said!r}", "what the person finally wrote")
    return None, (said,)


def read_words(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a comment.

    Raises:
        InputError: no text.
    """
    if not isinstance(said, str) or not said:
        raise InputError("comment", f"{said!r}", "words")
    return None, (said,) if text is None and answer is None else (said, _about(text, answer))


_READ: Mapping[str, Any] = {
    "rating": read_number,
    "thumb": read_yes,
    "preference": read_ranking,
    "edit": read_final,
    "kept": read_true,
    "dismissed": read_true,
    "comment": read_words,
}

KINDS: Mapping[str, LabelKind] = {
    name: LabelKind(name, records is not nothing, _READ[name], records) for name, records in LEARNED.items()
}
"""Kinds of labels by the name under which a journal keeps them."""

ALIASES: Mapping[str, str] = {"prefer" if name == "preference" else name: name for name in KINDS}
"""Names of what is said (:class:`Statement`), and the kind that it is."""


def _about(text: str | None, answer: LoggedAnswer | None) -> str:
    """Give the text that is spoken of: the one that is named, or the one that was shown."""
    if isinstance(text, str):
        return text
    if text is not None:
        raise InputError("text", f"a value of type {type(text).__name__}", "the text that is spoken of")
    if answer is None:
        raise InputError("label", "no answer and no text", "an answer's id, or text=")
    return answer.shown


def _candidate(one: Any, answer: LoggedAnswer | None) -> str:  # noqa: ANN401 - what a caller gives
    """Give a text, or the candidate of an index."""
    if isinstance(one, str):
        return one
    count = 0 if answer is None else len(answer.texts)
    if isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one < count or answer is None:
        raise InputError("prefer", f"{one!r}", f"a text, or an index of the answer's {count} candidates")
    return answer.texts[int(one)]
