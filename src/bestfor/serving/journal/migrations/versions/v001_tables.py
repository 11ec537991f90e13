"""Make the tables of people, answers, labels, tombstones and folders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "people",
        sa.Column("person", sa.LargeBinary(16), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    _make_answers()
    _make_labels()
    op.create_table(
        "tombstones",
        sa.Column("person", sa.LargeBinary(16), primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
    )
    op.create_table(
        "folders",
        sa.Column("row", sa.LargeBinary(16), primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables and all that is in them."""
    for name in ("folders", "tombstones", "labels", "answers", "people"):
        op.drop_table(name)


def _make_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("row", sa.LargeBinary(16), primary_key=True),
        sa.Column("person", sa.LargeBinary(16), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("texts", sa.Text, nullable=False),
        sa.Column("mean", sa.Text, nullable=False),
        sa.Column("std", sa.Text),
        sa.Column("chances", sa.Text, nullable=False),
        sa.Column("chosen", sa.Integer, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("served", sa.Text, nullable=False),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("hashed", sa.Boolean, nullable=False),
    )
    op.create_index("answers_person", "answers", ["person"])
    op.create_index("answers_time", "answers", ["time"])


def _make_labels() -> None:
    op.create_table(
        "labels",
        sa.Column("row", sa.LargeBinary(16), primary_key=True),
        sa.Column("person", sa.LargeBinary(16), nullable=False),
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
    )
    op.create_index("labels_person", "labels", ["person"])
    op.create_index("labels_answer", "labels", ["answer"])
