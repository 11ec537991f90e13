"""Count each person's answers and labels, so that nobody counts all of them to say how many there are.

PostgreSQL: nobody writes meanwhile. Processes of an older release, which do not count, must have ended before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "004"
down_revision = "003"


def upgrade() -> None:
    """Add the counts, and count once what is there."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("LOCK TABLE people, answers, labels IN SHARE ROW EXCLUSIVE MODE")
    for name in ("answers", "labels"):
        op.add_column("people", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.execute(
        "UPDATE people SET answers = (SELECT count(*) FROM answers WHERE answers.person = people.person),"
        " labels = (SELECT count(*) FROM labels WHERE labels.person = people.person AND labels.withdrawn IS NULL)"
    )


def downgrade() -> None:
    """Remove the counts."""
    for name in ("answers", "labels"):
        op.drop_column("people", name)
