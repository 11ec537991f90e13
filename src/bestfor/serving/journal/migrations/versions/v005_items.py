"""Find labels by the text that they rate, so that what others said of the very candidates can be read at once.

What is there is read and named in portions; ten million labels take minutes. Processes of an older release, which name
no texts, must have ended before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from bestfor.serving.journal.records import item_of

revision = "005"
down_revision = "004"

KINDS = ("rating", "thumb", "kept", "dismissed")
PORTION = 5_000
"""Labels that are read and changed at once."""


def upgrade() -> None:
    """Add the column, name what is there, and make the index."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE people, answers, labels IN SHARE ROW EXCLUSIVE MODE")
    op.add_column("labels", sa.Column("item", sa.LargeBinary(16)))
    connection = op.get_bind()
    for named in _named(connection):
        _store(connection, named)
    held = sa.and_(sa.column("item").is_not(None), sa.column("withdrawn").is_(None))
    op.create_index("labels_item", "labels", ["item", "time", "person"], sqlite_where=held, postgresql_where=held)


def downgrade() -> None:
    """Remove both."""
    op.drop_index("labels_item", "labels")
    op.drop_column("labels", "item")


def _named(connection: sa.Connection) -> Iterator[list[tuple[bytes, bytes]]]:
    """Read portions of labels that rate one text: the row of each and its item."""
    labels, answers, people = (
        sa.table(name, *map(sa.column, columns))
        for name, columns in (
            ("labels", ("person", "row", "kind", "texts", "prompt", "hashed", "answer")),
            ("answers", ("row", "prompt", "hashed")),
            ("people", ("person", "tenant")),
        )
    )
    asked = (
        sa.select(
            labels.c.person,
            labels.c.row,
            labels.c.texts,
            labels.c.prompt,
            labels.c.hashed,
            people.c.tenant,
            answers.c.prompt.label("asked"),
            answers.c.hashed.label("asked_hashed"),
        )
        .join(people, people.c.person == labels.c.person)
        .outerjoin(answers, answers.c.row == labels.c.answer)
        .where(labels.c.kind.in_(KINDS))
        .order_by(labels.c.person, labels.c.row)
        .limit(PORTION)
    )
    after: Any = None
    while True:
        behind = sa.tuple_(labels.c.person, labels.c.row) > after if after else sa.true()
        found = connection.execute(asked.where(behind)).all()
        if not found:
            return
        after = (found[-1].person, found[-1].row)
        yield [(one.row, item) for one in found if (item := _item(one)) is not None]


def _item(row: Any) -> bytes | None:  # noqa: ANN401 - a row of what was asked for
    """Name the text of a label."""
    texts = json.loads(row.texts)
    if len(texts) != 1:
        return None
    if row.asked is not None:
        prompt = (json.loads(row.asked), bool(row.asked_hashed))
    else:
        told = json.loads(row.prompt)
        prompt = (told, bool(row.hashed) and told != "")
    return item_of(row.tenant, prompt, (texts[0], bool(row.hashed)))


def _store(connection: sa.Connection, named: list[tuple[bytes, bytes]]) -> None:
    """Write the items; PostgreSQL takes a portion by one statement."""
    if not named:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("UPDATE labels SET item = ? WHERE row = ?", [(item, row) for row, item in named])
        return
    statement = (
        "UPDATE labels SET item = given.item FROM unnest(CAST(:rows AS bytea[]), CAST(:items AS bytea[]))"
        ' AS given (named, item) WHERE labels."row" = given.named'
    )
    rows, items = (list(some) for some in zip(*named, strict=True))
    connection.execute(sa.text(statement), {"rows": rows, "items": items})
