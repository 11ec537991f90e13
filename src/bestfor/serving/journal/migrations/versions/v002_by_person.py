"""Store the labels of one person side by side, and count removals of people so that every process hears of them.

SQLite keeps a table's rows in the order of its primary key (``WITHOUT ROWID``), so that a person's labels are read from
a few pages instead of from one page a label; the table is written anew. PostgreSQL keeps rows where they were; there
the index alone changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"


def upgrade() -> None:
    """Order the labels by person; count from 0."""
    op.create_table(
        "counters",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('forgets', 0)")
    _rekey(("person", "row"), rowid=False)
    spoken = sa.column("answer").is_not(None)
    op.create_index("labels_answer", "labels", ["answer"], sqlite_where=spoken, postgresql_where=spoken)
    op.create_index("labels_row", "labels", ["row"], unique=True)


def downgrade() -> None:
    """Order the labels as they came."""
    _rekey(("row",), rowid=True)
    op.create_index("labels_answer", "labels", ["answer"])
    op.create_index("labels_person", "labels", ["person"])
    op.drop_table("counters")


def _rekey(key: tuple[str, ...], *, rowid: bool) -> None:
    """Give the labels another primary key, and no other index."""
    op.drop_index("labels_row" if rowid else "labels_person", "labels")
    op.drop_index("labels_answer", "labels")
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint("labels_pkey", "labels", type_="primary")
        op.create_primary_key("labels_pkey", "labels", list(key))
        return
    columns = _columns(key)
    op.create_table("labels_new", *columns, sqlite_with_rowid=rowid)
    names, order = (", ".join(f'"{name}"' for name in some) for some in ((one.name for one in columns), key))
    op.execute(f"INSERT INTO labels_new ({names}) SELECT {names} FROM labels ORDER BY {order}")
    op.drop_table("labels")
    op.rename_table("labels_new", "labels")


def _columns(key: tuple[str, ...]) -> list[sa.Column]:
    digests = ("person", "row") if key[0] == "person" else ("row", "person")
    return [
        *(sa.Column(name, sa.LargeBinary(16), nullable=False, primary_key=name in key) for name in digests),
        sa.Column("answer", sa.LargeBinary(16)),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("texts", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("changed", sa.Double),
        sa.Column("withdrawn", sa.Double),
        sa.Column("hashed", sa.Boolean, nullable=False),
    ]
