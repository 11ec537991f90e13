"""Ratings of the very candidates by other people than the asking one, row by row.

Such ratings inform a prediction and are no part of any fit: a fitted model conditions on them
(:mod:`bestfor.rewards.others`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor import rng as randomness
from bestfor.data.labels import Labels
from bestfor.data.schema import read
from bestfor.errors import InputError
from bestfor.types import BoolArray, FloatArray, IntArray

FILE = "others.parquet"
OTHERS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("candidate", pa.int32(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("utility", pa.float64(), nullable=False),
    ]
)
"""Columns of ``others.parquet``: ``user_id`` is who rated the candidate of somebody else's query."""


@dataclass(frozen=True)
class OtherRatings:
    """Ratings of n candidates by other people, m in all; those of one candidate lie together.

    Attributes:
        users: ids of the raters; ``user`` indexes them.
        ends: shape (n + 1,), where each candidate's ratings end, from 0.
        user: shape (m,), code of who rated.
        utility: shape (m,), in the units of the model's labels.
        weight: shape (m,), the rating's precision over that of an ordinary one.
    """

    users: tuple[str, ...]
    ends: IntArray
    user: IntArray
    utility: FloatArray
    weight: FloatArray

    @property
    def count(self) -> IntArray:
        """Ratings of each candidate, shape (n,)."""
        return np.diff(self.ends)

    @property
    def row(self) -> IntArray:
        """Candidate of each rating, shape (m,)."""
        return np.repeat(np.arange(len(self.ends) - 1), self.count)

    def take(self, rows: IntArray | BoolArray | slice) -> OtherRatings:
        """Ratings of some of the candidates."""
        chosen = np.arange(len(self.ends) - 1)[rows]
        count = self.count[chosen]
        ends = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        place = np.repeat(self.ends[chosen] - ends[:-1], count) + np.arange(ends[-1])
        return OtherRatings(self.users, ends, self.user[place], self.utility[place], self.weight[place])

    def first(self, k: int) -> OtherRatings:
        """The first k ratings of each candidate."""
        kept = np.arange(len(self.user)) - self.ends[self.row] < k
        ends = np.concatenate([[0], np.cumsum(np.minimum(self.count, k))]).astype(np.int64)
        return OtherRatings(self.users, ends, self.user[kept], self.utility[kept], self.weight[kept])


def code_others(
    asked: Sequence[tuple[str, str, Sequence[str]]], others: Sequence[Mapping[str, Labels] | None]
) -> OtherRatings:
    """Code what others said of the candidates of some requests; of other texts nothing is taken.

    Args:
        asked: user, prompt and texts of each request.
        others: labels by who gave them, of each request.

    Raises:
        InputError: another number of mappings than requests, labels of who asks, a utility that is not finite, a
            weight that is not above 0, or a preference between two of the candidates: texts are conditioned on one by
            one, and a preference says something of two together.
    """
    if len(others) != len(asked):
        raise InputError("others", f"{len(others)} mappings for {len(asked)} requests", "one for each request")
    raters: dict[str, int] = {}
    found: list[list[tuple[int, float, float]]] = []
    for (user, prompt, texts), told in zip(asked, others, strict=True):
        known: dict[str, list[tuple[int, float, float]]] = {}
        for rater, labels in sorted((told or {}).items()):
            _check_rater(rater, user, labels)
            _check_preferences(rater, prompt, texts, labels)
            for one in sorted(labels.rated):
                if one.prompt == prompt:
                    label = (raters.setdefault(rater, len(raters)), float(one.utility), float(one.weight))
                    known.setdefault(one.text, []).append(label)
        found += [known.get(text, []) for text in texts]
    ends = np.cumsum([0, *map(len, found)]).astype(np.int64)
    flat = np.array([label for each in found for label in each], dtype=np.float64).reshape(-1, 3)
    return OtherRatings(tuple(raters), ends, flat[:, 0].astype(np.int64), flat[:, 1].copy(), flat[:, 2].copy())


def _check_rater(rater: str, user: str, labels: Labels) -> None:
    if rater == user:
        expected = "labels of other people; the user's own make a person (RewardModel.person)"
        raise InputError("others", f"labels of '{user}', who asks", expected)
    for one in labels.rated:
        if not np.isfinite(one.utility) or not 0 < one.weight < np.inf:
            found = f"utility {one.utility} of weight {one.weight}"
            raise InputError(f"others, labels of '{rater}'", found, "finite utilities and weights above 0")


def _check_preferences(rater: str, prompt: str, texts: Sequence[str], labels: Labels) -> None:
    """Refuse preferences between candidates of the request; those of other texts concern nobody here, as ratings do."""
    if any(one.prompt == prompt and one.better in texts and one.worse in texts for one in labels.preferred):
        expected = "ratings: what others prefer of two candidates is not learned from (leave it out)"
        raise InputError(f"others, labels of '{rater}'", "a preference between two of the candidates", expected)


def reveal(
    rating: tuple[IntArray, IntArray], names: tuple[Sequence[str], Sequence[str]], k: int, seed: int, rows: IntArray
) -> tuple[IntArray, IntArray]:
    """Draw for some ratings up to k other people's ratings of the same text, none of who gave the rating.

    Args:
        rating: user and text of each of n ratings.
        names: ids of users and of texts; the draw of a user and text is keyed by them, and one of fewer ratings is the
            beginning of one of more.
        k: at most so many.
        seed: the run's.
        rows: shape (r,), the ratings that are drawn for.

    Returns:
        Where the others of each of ``rows`` end, shape (r + 1,), and places of the drawn ratings.
    """
    user, text = rating
    order = np.argsort(text, kind="stable")
    starts = np.searchsorted(text[order], np.arange(len(names[1]) + 1))
    # the order of a text's ratings is that of its raters' names, not that of the source
    rank = np.argsort(np.argsort(np.array(names[0], dtype=object), kind="stable"), kind="stable")
    found: list[IntArray] = []
    by_text: dict[int, IntArray] = {}
    for who, what in zip(user[rows].tolist(), text[rows].tolist(), strict=True):
        if what not in by_text:
            part = order[starts[what] : starts[what + 1]]
            by_text[what] = part[np.argsort(rank[user[part]], kind="stable")]
        there = by_text[what]
        others = there[user[there] != who]
        drawn = randomness.derive(seed, "others", str(names[0][who]), str(names[1][what])).permutation(len(others))[:k]
        found.append(others[drawn])
    ends = np.cumsum([0, *map(len, found)]).astype(np.int64)
    return ends, np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def others_table(others: OtherRatings, query: Sequence[str], candidate: IntArray) -> pa.Table:
    """Make a table of what others said; ``query`` and ``candidate`` name each candidate."""
    row = others.row
    columns = {
        "query_id": pa.array(query, pa.string()).take(pa.array(row)),
        "candidate": pa.array(candidate[row], pa.int32()),
        "user_id": pa.array(others.users, pa.string()).take(pa.array(others.user)),
        "utility": pa.array(others.utility, pa.float64()),
    }
    return pa.table(columns, schema=OTHERS)


def read_others(path: Path) -> pa.Table | None:
    """Read what :func:`others_table` made; None where there is no file.

    Raises:
        InputError: a damaged table.
    """
    return read(path, OTHERS) if path.is_file() else None


def others_of(table: pa.Table, query: Sequence[str], candidate: IntArray) -> OtherRatings:
    """Code a table of what others said for candidates of these queries and numbers; of others nothing is taken."""
    code = {key: row for row, key in enumerate(zip(query, candidate.tolist(), strict=True))}
    keys = zip(table["query_id"].to_pylist(), table["candidate"].to_pylist(), strict=True)
    row = np.array([code.get(key, -1) for key in keys], dtype=np.int64)
    kept = np.flatnonzero(row >= 0)
    kept = kept[np.argsort(row[kept], kind="stable")]
    names = table["user_id"].to_pylist()
    users = {name: place for place, name in enumerate(dict.fromkeys(names[place] for place in kept.tolist()))}
    user = np.array([users[names[place]] for place in kept.tolist()], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(candidate)))]).astype(np.int64)
    utility = np.asarray(table["utility"].to_numpy()[kept], dtype=np.float64)
    return OtherRatings(tuple(users), ends, user, utility, np.ones(len(kept)))
