"""Names under which a reward model knows the people of a journal.

A model's own users are those of the tenant without a name. Users of other tenants stand beside them under names that no
plain id can be, and so do those who were forgotten: whatever the model knows of the namesake is not theirs.
"""

from __future__ import annotations

from bestfor.data.labels import JOURNAL as JOURNAL
from bestfor.serving.journal import records

SEPARATOR = records.SEPARATOR
NOBODY = "\x1e"
"""Begins the id under which an answer for nobody is kept; no client's id may hold it."""


def model_name(tenant: str, user: str, *, forgotten: bool = False) -> str:
    """Name a person as the model does.

    Args:
        tenant: whose user it is.
        user: the id.
        forgotten: whether they were forgotten; the name is then one that no model knows.
    """
    if forgotten:
        return f"{SEPARATOR}{records.digest(tenant, user).hex()}"
    return user if not tenant else f"{tenant}{SEPARATOR}{user}"
