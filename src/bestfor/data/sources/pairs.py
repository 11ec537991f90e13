"""Load pairs of one's own: which of two answers to a prompt a user chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.ratings import Ratings
from bestfor.data.read.cells import filled
from bestfor.data.read.tables import Columns, file_signature, read_table
from bestfor.data.sources.comparisons import nested_layout, read_comparisons
from bestfor.data.text import plain_form
from bestfor.errors import InputError, nearest

ROLES = ("user", "query", "chosen", "rejected", "tie")


def load_pairs(path: str | Path, columns: Mapping[str, str] | None = None) -> Ratings:
    """Load pairs of answers as ratings: an answer's rating is the share of a user's comparisons that it won.

    Where a user compared two answers of a prompt, they are a pool of two whose ratings are 1 and 0: the utility at
    N = 2 is then the share of pairs that a model tells right, its pairwise accuracy by user.

    Files of arenas and of reward benchmarks (:mod:`bestfor.data.sources.comparisons`) are known by their fields.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, one pair a row; nested rows also as .json, or .gz of either.
        columns: other names for the roles user, query, chosen, rejected and, where there is one, tie (true where
            neither answer was better: each wins half).

    Returns:
        Ratings in [0, 1].

    Raises:
        InputError: as :func:`~bestfor.data.read.tables.read_table`; an empty cell, or no pair of different answers.
    """
    names = {role: role for role in ROLES}
    for role in columns or ():
        if role not in names:
            raise InputError(f"columns of {path}", f"unknown role '{role}'", nearest(role, names))
    names |= dict(columns or {})
    layout = nested_layout(Path(path), names)
    if layout is not None:
        nested = read_comparisons(Path(path), layout, names, tuple(columns or ()))
        return _with_written(_rated(nested.table(), path, nested.notes()), nested.written)
    table = read_table(path, _wanted(names))
    for role in ("query", "chosen", "rejected"):
        filled(table.column(role), f"{path}, column '{names[role]}'", "a text")
    return _rated(table, path)


def _rated(table: pa.Table, path: str | Path, said: tuple[str, ...] = ()) -> Ratings:
    """Rate answers by their comparisons."""
    won, notes = _comparisons(table)
    if not won.num_rows:
        raise InputError(str(path), "no pair of different answers", "at least one")
    found = Ratings.build(
        won, name=Path(path).stem, source=str(path), signature=f"{file_signature(path)}|pairs", duplicates="mean"
    )
    # comparisons of one answer are its own, not repeated ratings
    return replace(
        found, notes=(*said, *notes, *(note for note in found.notes if "repeat a user's rating" not in note))
    )


def _with_written(ratings: Ratings, written: Mapping[str, tuple[str, ...]]) -> Ratings:
    """Add what users wrote before, without what is asked in the pairs themselves."""
    if not written:
        return ratings
    asked: dict[str, set[str]] = {}
    for user, query in zip(ratings.user.tolist(), ratings.query.tolist(), strict=True):
        asked.setdefault(ratings.users[user], set()).add(plain_form(ratings.queries[query]))
    kept = {
        user: tuple(text for text in texts if plain_form(text) not in asked[user])
        for user, texts in written.items()
        if user in asked
    }
    said = f"{len(kept)} users have a profile: its {sum(map(len, kept.values()))} texts are what they wrote before"
    signature = f"{ratings.signature}|profiles"
    return replace(ratings, written=kept, notes=(*ratings.notes, said), signature=signature)


def _wanted(names: Mapping[str, str]) -> Columns:
    return Columns(
        text={role: names[role] for role in ("user", "query", "chosen", "rejected")},
        number={"tie": names["tie"]},
        optional=frozenset({"tie"}),
        hints={role: f'columns = {{ {role} = "NAME" }} under [data]' for role in ROLES},
        ids=frozenset({"user"}),
    )


def _comparisons(table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """Make two rows of a pair, one for each answer with what it won; pairs of one text tell nothing."""
    texts = [table.column(role).to_pylist() for role in ("chosen", "rejected")]
    told = np.array([plain_form(one) != plain_form(other) for one, other in zip(*texts, strict=True)], dtype=np.bool_)
    tie = table.column("tie").to_numpy() if "tie" in table.schema.names else np.zeros(table.num_rows)
    half = np.where(np.nan_to_num(tie) != 0, 0.5, 1.0)
    kept = table.filter(pa.array(told))
    rows = {name: pa.concat_arrays([kept.column(name).combine_chunks()] * 2) for name in ("user", "query")} | {
        "text": pa.concat_arrays([kept.column(role).combine_chunks() for role in ("chosen", "rejected")]),
        "rating": pa.array(np.concatenate([half[told], 1.0 - half[told]])),
    }
    same = int((~told).sum())
    said = (f"{same} pairs of one and the same text were left out",) if same else ()
    return pa.table(rows), said
