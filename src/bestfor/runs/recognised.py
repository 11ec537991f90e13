"""Recognise a table's columns by what people call them, where those of the default names are absent.

A name is taken only where one column fits; where two do, an error names both. What was taken is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bestfor.errors import InputError
from bestfor.runs.table import TableColumns

NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (("user_id", "userid", "uid"), ("person", "person_id", "annotator", "annotator_id", "worker", "worker_id")),
    "query": (("query_id", "queryid", "qid", "prompt_id", "question_id"), ("prompt", "question")),
    "reward": (("score", "scores", "rewards", "reward_score"), ("prediction", "predicted")),
    "utility": (("true_utility", "gold"), ("rating", "label", "human_score", "stars", "accepted")),
}
"""Role -> names that stand for it, those that say it most plainly first."""

RESPONSE = (("response", "completion"), ("answer", "output", "candidate_text", "text"))
PROMPT = (("prompt", "question", "instruction"), ("input",))
"""Names of what candidates say and of what was asked, likewise."""


def recognise(where: str, names: Sequence[str], columns: TableColumns) -> tuple[TableColumns, tuple[str, ...]]:
    """Replace default names that a table lacks by the one column that fits.

    Args:
        where: the table, for errors.
        names: of its columns.
        columns: as they were asked for; only roles that still have their default name are looked for.

    Returns:
        The columns, and a sentence for each that was recognised.

    Raises:
        InputError: two columns fit one role equally well.
    """
    plain = TableColumns()
    taken = {columns.user, columns.query, *columns.rewards, columns.utility}
    found: dict[str, str] = {}
    for role, groups in NAMES.items():
        asked = columns.rewards if role == "reward" else getattr(columns, role)
        default = plain.rewards if role == "reward" else getattr(plain, role)
        if asked != default or role in names:
            continue
        free = [name for name in names if name not in taken]
        fitting = column_like(where, free, groups, f"--{role}")
        if fitting is not None:
            found[role] = fitting
            taken.add(fitting)
    said = tuple(f"column '{name}' is read as the {role} (--{role} names another)" for role, name in found.items())
    rewards = (found["reward"],) if "reward" in found else columns.rewards
    others = {role: name for role, name in found.items() if role != "reward"}
    return replace(columns, rewards=rewards, **others), said


@dataclass(frozen=True)
class ShownColumns:
    """Columns that a page shows: what candidates say and what was asked, None where there is none; and what to say."""

    response: str | None
    prompt: str | None
    said: tuple[str, ...] = ()


def recognise_shown(
    where: str, names: Sequence[str], columns: TableColumns, named: tuple[str | None, str | None]
) -> ShownColumns:
    """Recognise the columns that a page shows among those that have no role yet.

    Args:
        where: the table, for errors.
        names: of its columns.
        columns: those that have a role.
        named: columns of responses and of prompts, None where they are to be recognised.

    Raises:
        InputError: two columns fit equally well.
    """
    roles = (columns.user, columns.query, *columns.rewards, columns.utility, columns.text, columns.candidate)
    free = [name for name in names if name not in {*roles, *columns.stds.values(), *named}]
    response = named[0] or column_like(where, free, RESPONSE, "--response")
    if response is None:
        return ShownColumns(None, None)
    prompt = named[1] or column_like(where, [name for name in free if name != response], PROMPT, "--prompt")
    guessed = {"response": (named[0], response, "what candidates say"), "prompt": (named[1], prompt, "what was asked")}
    said = tuple(
        f"column '{found}' is read as {what} (--{option} names another)"
        for option, (given, found, what) in guessed.items()
        if given is None and found is not None
    )
    return ShownColumns(response, prompt, said)


def column_like(where: str, names: Sequence[str], groups: Sequence[Sequence[str]], option: str) -> str | None:
    """Find the one column that is called like one of some names; those of the first group that fits count.

    Args:
        where: the table, for errors.
        names: of its columns.
        groups: of names in lower case, with ``_`` between words.
        option: that names another column.

    Raises:
        InputError: two columns of a group are there.
    """
    spelled = {name: name.strip().lower().replace(" ", "_").replace("-", "_") for name in names}
    for group in groups:
        fitting = [name for name, plain in spelled.items() if plain in group]
        if len(fitting) > 1:
            listed = " and ".join(f"'{name}'" for name in fitting)
            raise InputError(where, f"columns {listed}, which both may be meant", f"{option} NAME")
        if fitting:
            return fitting[0]
    return None
