"""Make the table of refits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "refits",
        sa.Column("row", sa.LargeBinary(16), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("labels", sa.BigInteger, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("begun", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("refits")
