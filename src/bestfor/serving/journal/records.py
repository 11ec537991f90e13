"""Define the records of a journal: answers that were given, labels that people gave, and what became of a call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from bestfor.errors import BestforError, InputError
from bestfor.files import hash_parts

Status = Literal["new", "same", "changed", "withdrawn"]
"""What a label did: it is new; it was there already; it took the place of another value; its key was withdrawn."""

SEPARATOR = "\x1f"
"""Stands between a tenant and a user in the name under which a model knows a person; no id may hold it."""


class JournalError(BestforError):
    """Error of a journal that could not be read or written: a full disk, a lost connection, a locked file."""


@dataclass(frozen=True)
class LoggedAnswer:
    """An answer that was given, with all that is needed to learn from it and to evaluate other rules on it.

    Attributes:
        id: names the answer within its tenant.
        user: who asked.
        prompt: what was asked; its SHA-256 where ``hashed``.
        texts: the n candidates; their SHA-256 where ``hashed``.
        mean: n rewards, None where the model had none to give.
        std: n predictive standard deviations, None where the model has none.
        chances: n exact probabilities with which the rule would have shown each candidate.
        chosen: index of the candidate that was shown.
        rule: the rule's name, exploration included.
        model: content hash of the model that scored.
        served: what scored: ``own``, ``everybody`` or ``abstained``.
        tokens: how many were generated for the candidates, None where nobody counted.
        time: seconds since 1970.
        hashed: whether texts are hashes.
    """

    id: str
    user: str
    prompt: str
    texts: tuple[str, ...]
    mean: tuple[float | None, ...]
    std: tuple[float | None, ...] | None
    chances: tuple[float, ...]
    chosen: int
    rule: str
    model: str
    served: str
    tokens: int | None
    time: float
    hashed: bool = False

    @property
    def shown(self) -> str:
        """Text that was shown."""
        return self.texts[self.chosen]


@dataclass(frozen=True)
class Label:
    """A label that a person gave, as it is stored.

    Attributes:
        key: names the label within its tenant: it is counted once however often it is sent.
        user: who gave it.
        kind: a key of :data:`bestfor.serving.labels.KINDS`.
        answer: id of the answer that it is about, None where it is about bare texts.
        value: the number of a rating, 1 or 0 of a thumb, None where a kind has none.
        low: lowest number of the scale that ``value`` is on, None where it is on none.
        high: highest number of that scale.
        texts: the texts that it is about, best first in a preference; the final text of an edit; the comment.
        prompt: what was asked where there is no answer that says so.
        weight: precision over that of an ordinary rating.
        time: seconds since 1970 at which it came first.
        changed: seconds since 1970 of the last change of its value, None where there was none.
        withdrawn: seconds since 1970 at which it was withdrawn, None where it holds.
        hashed: whether texts are hashes.
    """

    key: str
    user: str
    kind: str
    answer: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    texts: tuple[str, ...] = ()
    prompt: str = ""
    weight: float = 1.0
    time: float = 0.0
    changed: float | None = None
    withdrawn: float | None = None
    hashed: bool = False


@dataclass(frozen=True)
class Learned:
    """Receipt of a label.

    Attributes:
        key: the label's key, to change or withdraw it.
        status: what became of it.
        note: why it is not learned from at once, "" where it is.
    """

    key: str
    status: Status
    note: str = ""


@dataclass(frozen=True)
class Forgotten:
    """Receipt of a person's removal.

    Attributes:
        user: who was forgotten.
        answers: how many answers were removed.
        labels: how many labels were removed.
        wiped: whether the removed bytes are gone from the journal's files too; ``notes`` say why where they are not.
        still_held: folders of models and runs that hold the person's labels or texts, to be removed or made again.
        notes: plain sentences on what this call could not reach.
    """

    user: str
    answers: int
    labels: int
    wiped: bool
    still_held: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """State of a person in a journal.

    Attributes:
        revision: changes whenever their labels do; None where nothing is known of them.
        forgotten: whether they were forgotten, so that what a model knows of them must not be used.
    """

    revision: int | None
    forgotten: bool


def digest(*parts: str) -> bytes:
    """Hash names to the 16 bytes under which a row is found; ids of any length fit an index so."""
    encoded = [part.encode() for part in parts]
    return bytes.fromhex(hash_parts(piece for one in encoded for piece in (len(one).to_bytes(8, "big"), one)))[:16]


def check_id(where: str, value: object) -> str:
    """Check a user's, a tenant's, a key's or an answer's id.

    Raises:
        InputError: no text, or one with characters that a database cannot hold or that separate ids.
    """
    if not isinstance(value, str):
        raise InputError(where, f"a value of type {type(value).__name__}", "text")
    bad = next((sign for sign in value if sign in ("\0", SEPARATOR) or "\ud800" <= sign <= "\udfff"), None)
    if bad is not None:
        expected = "text without U+0000, U+001F and lone surrogates"
        raise InputError(where, f"the character U+{ord(bad):04X}", expected)
    return value


def pack(value: object) -> str:
    """Write texts or numbers as JSON that any database can hold, lone surrogates too."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text
