"""Define the records of a journal: answers that were given, labels that people gave, and what became of a call."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from bestfor.errors import BestforError, InputError
from bestfor.files import hash_bytes
from bestfor.labels.records import Label as Label
from bestfor.labels.records import LoggedAnswer as LoggedAnswer

Status = Literal["new", "same", "changed", "withdrawn"]
"""What a label did: it is new; it was there already; it took the place of another value; its key was withdrawn."""

SEPARATOR = "\x1f"
"""Stands between a tenant and a user in the name under which a model knows a person; no id may hold it."""

RATING_KINDS = frozenset({"rating", "thumb", "kept", "dismissed"})
"""Kinds of labels that rate one text by itself, so that they tell others of it."""

_ANY = ("utf-8", "surrogatepass")
_UNFIT = re.compile("[\0\x1f\ud800-\udfff]")


class JournalError(BestforError):
    """Error of a journal that could not be read or written: a full disk, a lost connection, a locked file."""


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
        forgets: how often anybody was removed from the journal until now; two standings are equal whatever it is.
    """

    revision: int | None
    forgotten: bool
    forgets: int = field(default=0, compare=False)


@dataclass(frozen=True)
class SaidOfText:
    """A label that rates one of the texts that were asked for.

    Attributes:
        place: of the text among those.
        user: who gave it.
        forgotten: whether they had been forgotten before they gave it.
        kind: of the label.
        value: its number.
        low: lowest number of the scale that ``value`` is on, None where it is on none.
        high: highest number of that scale.
        weight: precision over that of an ordinary rating.
        time: seconds since 1970 at which it came first.
    """

    place: int
    user: str
    forgotten: bool
    kind: str
    value: float | None
    low: float | None
    high: float | None
    weight: float
    time: float


@dataclass(frozen=True)
class AskedTexts:
    """Texts that are offered to somebody.

    Attributes:
        tenant: whose journal it is.
        user: who is left out.
        prompt: for which the texts are offered.
        texts: n candidates.
    """

    tenant: str
    user: str
    prompt: str
    texts: tuple[str, ...]


def digest(*parts: str) -> bytes:
    """Hash names to the 16 bytes under which a row is found; ids of any length fit an index so."""
    named = b""
    for part in parts:
        encoded = part.encode()
        named += len(encoded).to_bytes(8, "big") + encoded
    return sha256(named).digest()[:16]


def item_of(tenant: str, prompt: tuple[str, bool], text: tuple[str, bool]) -> bytes:
    """Name a text that was offered for a prompt, the same whether a journal keeps texts or their hashes.

    Args:
        tenant: whose journal it is.
        prompt: what was asked, and whether that is its SHA-256 already.
        text: the text, likewise.
    """
    return digest(tenant, *(one if hashed else hash_bytes(one.encode(*_ANY)) for one, hashed in (prompt, text)))


def check_id(where: str, value: object) -> str:
    """Check a user's, a tenant's, a key's or an answer's id.

    Raises:
        InputError: no text, or one with characters that a database cannot hold or that separate ids.
    """
    if not isinstance(value, str):
        raise InputError(where, f"a value of type {type(value).__name__}", "text")
    bad = _UNFIT.search(value)
    if bad is not None:
        expected = "text without U+0000, U+001F and lone surrogates"
        raise InputError(where, f"the character U+{ord(bad[0]):04X}", expected)
    return value


def pack(value: object) -> str:
    """Write texts or numbers as JSON that any database can hold, lone surrogates too."""
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str):
        text = f"[{_PLAIN.encode(value[0])}]"  # one text, as most labels have: without making an encoder of lists
    else:
        text = _PLAIN.encode(value)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ESCAPED.encode(value)
    return text


# Encoders that are kept: making one takes longer than a short text does.
_PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ESCAPED = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
