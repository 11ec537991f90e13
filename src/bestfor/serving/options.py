"""Options of a service and of one answer, and their check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from bestfor.encoders import Encoder
from bestfor.errors import InputError, nearest
from bestfor.rewards import RewardModel
from bestfor.serving.labels import FindText, LabelScale

PERSONS = 20_000
"""Persons that a service keeps in memory at the most."""
MEMORY = 200.0
"""Megabytes of these persons at the most."""
OTHERS = 30
"""Labels of other people that are looked at of each text, unless told otherwise."""
MOST_OTHERS = 1_000
"""And at the most."""


class ServiceOptions(TypedDict, total=False):
    """Options of a service that few need.

    Attributes:
        scale: how labels are read as utilities; by default the scale of the labels of the model's run.
        texts: ``keep``, or ``hash`` where a journal may not hold texts.
        find_text: finds the text of a SHA-256 that this process does not remember, where ``texts`` is ``hash``.
        persons: how many persons are kept in memory at the most.
        memory: megabytes of these persons at the most; who is left out is made again at the next request.
        encoder: takes the place of the one that the model names.
        cache: folder for embeddings; None keeps them in memory.
        kinds: classes of one's own that the model may be of.
        on_disk: what is on the disk before a call returns: ``all``, or ``labels`` (answers are then with the operating
            system, which the end of this process leaves whole and a power cut may not).
        others: of each text that is scored, how many labels of other people are looked at, the newest ones; 0 leaves
            others out. Kinds that do not learn from them (``hears``) never look.
    """

    scale: LabelScale | None
    texts: Literal["keep", "hash"]
    find_text: FindText | None
    persons: int
    memory: float
    encoder: Encoder | None
    cache: Path | None
    kinds: Sequence[type[RewardModel]]
    on_disk: Literal["all", "labels"]
    others: int


class AnswerOptions(TypedDict, total=False):
    """Options of :meth:`Service.answer` and :meth:`Service.begin`; see the former."""

    id: str | None
    tokens: int | None
    rule: str | None
    everybody: bool


def check_options(options: ServiceOptions) -> ServiceOptions:
    """Check the names and values of a service's options.

    Raises:
        InputError: an unknown name, or a value that it does not take.
    """
    known = ServiceOptions.__annotations__
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise InputError("Service", f"'{unknown}'", nearest(unknown, known))
    if options.get("texts", "keep") not in ("keep", "hash"):
        raise InputError("texts", f"{options.get('texts')!r}", "'keep' or 'hash'")
    if options.get("on_disk", "all") not in ("all", "labels"):
        raise InputError("on_disk", f"{options.get('on_disk')!r}", "'all' or 'labels'")
    persons = options.get("persons", 1)
    if isinstance(persons, bool) or not isinstance(persons, int) or persons < 1:
        raise InputError("persons", f"{persons!r}", "1 or more")
    others = options.get("others", OTHERS)
    if isinstance(others, bool) or not isinstance(others, int) or not 0 <= others <= MOST_OTHERS:
        raise InputError("others", f"{others!r}", f"0 to {MOST_OTHERS:,} labels of each text")
    memory = options.get("memory", MEMORY)
    if isinstance(memory, bool) or not isinstance(memory, int | float) or not 0 < memory < float("inf"):
        raise InputError("memory", f"{memory!r}", "megabytes, more than 0")
    return options
