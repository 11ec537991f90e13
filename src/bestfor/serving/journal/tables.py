"""Define the tables of a journal.

People, answers and labels are found by 16 bytes of SHA-256 (:func:`bestfor.serving.journal.records.digest`) over the
tenant and the id, so ids may be of any length and two tenants never share a row. Texts and lists of numbers are JSON.
A tombstone holds the digest of a forgotten person, not their id. The labels' primary key begins with the person: SQLite
keeps them in that order, so that those of one person are read from a few pages.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    column,
)

HEAD = "005"
"""Version of the schema that this release reads and writes: the last file in ``migrations/versions``."""

metadata = MetaData()

_OF_ANSWERS: dict[str, Any] = dict.fromkeys(("sqlite_where", "postgresql_where"), column("answer").is_not(None))
"""Labels of bare texts need no place in the index of answers."""
_HELD: dict[str, Any] = dict.fromkeys(
    ("sqlite_where", "postgresql_where"), and_(column("item").is_not(None), column("withdrawn").is_(None))
)
"""Labels that rate one text and hold are found by it."""

people = Table(
    "people",
    metadata,
    Column("person", LargeBinary(16), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False, server_default="0"),
    Column("labels", BigInteger, nullable=False, server_default="0"),
)
"""``answers`` and ``labels`` count a person's answers and labels that hold, and change with them in one commit."""

answers = Table(
    "answers",
    metadata,
    Column("row", LargeBinary(16), primary_key=True),
    Column("person", LargeBinary(16), nullable=False),
    Column("id", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("texts", Text, nullable=False),
    Column("mean", Text, nullable=False),
    Column("std", Text),
    Column("chances", Text, nullable=False),
    Column("chosen", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("tokens", BigInteger),
    Column("time", Double, nullable=False),
    Column("hashed", Boolean, nullable=False),
    Index("answers_person", "person"),
    Index("answers_time", "time"),
)

labels = Table(
    "labels",
    metadata,
    Column("person", LargeBinary(16), primary_key=True),
    Column("row", LargeBinary(16), primary_key=True),
    Column("answer", LargeBinary(16)),
    Column("key", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("texts", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("weight", Double, nullable=False),
    Column("time", Double, nullable=False),
    Column("changed", Double),
    Column("withdrawn", Double),
    Column("hashed", Boolean, nullable=False),
    Column("item", LargeBinary(16)),
    Index("labels_row", "row", unique=True),
    Index("labels_answer", "answer", **_OF_ANSWERS),
    Index("labels_item", "item", "time", "person", **_HELD),
    sqlite_with_rowid=False,
)
"""``item`` is :func:`~bestfor.serving.journal.records.item_of` of the one text that a label rates, else nothing."""

tombstones = Table(
    "tombstones",
    metadata,
    Column("person", LargeBinary(16), primary_key=True),
    Column("time", Double, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""``forgets`` counts how often somebody was removed, so that every process hears of it at its next read."""

folders = Table(
    "folders",
    metadata,
    Column("row", LargeBinary(16), primary_key=True),
    Column("path", Text, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("time", Double, nullable=False),
)
"""Folders of models and runs that were served from, or made of, this journal; kind 0 is a model, 1 a run."""

refits = Table(
    "refits",
    metadata,
    Column("row", LargeBinary(16), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("labels", BigInteger, nullable=False),
    Column("folder", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("begun", Double, nullable=False),
    Column("ended", Double),
)
"""Refits that were begun: of which tenant and model, and what became of each."""
