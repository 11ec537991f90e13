"""Fit ``hierarchical`` to blocks of users (:mod:`bestfor.rewards.hierarchical` has the model).

1. map: ids of the users, their labels and queries, mean and squares of the utilities. Reduce: add up; choose the users
   whom variances are learned from, the same ones as in one process.
2. map: these users' rows. Reduce: variances, noise head and structure, by the code of one process on these rows.
3. map: sum of J'V^-1 J and of J'V^-1 y over the block's users. Reduce: add up; A = G^-1 + sum, theta_0 = A^-1 right.
4. where users may abstain, map: sums of their leave-one-out errors. Reduce: who does.
5. map: theta_u and the compact rows of every user, stored as the shard of the block's number.

What everybody makes of a shared text stays in its labels (``text_effects = false``): users and texts would have to
be solved together. Held by the reduction are the ids of all users (some 100 bytes each) and the rows of those in round
2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.artifacts import Arrays
from bestfor.data.blocks import LabelBlocks
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards.abstain import AbstainSums, abstain_sums
from bestfor.rewards.blocks.linear import abstained_by_block, abstainers
from bestfor.rewards.blocks.rounds import LabelSums, Round, feature_rows, join_label_sums, read_block, sum_labels
from bestfor.rewards.hierarchical.fit import HierarchicalFit, abstain_errors, learn_prior, noise_sizes, sampled_users
from bestfor.rewards.hierarchical.model import Hierarchical, user_arrays
from bestfor.rewards.hierarchical.structure import Structure
from bestfor.rewards.hierarchical.users import (
    UserPosteriors,
    compress_rows_in_chunks,
    information,
    posteriors_of,
)
from bestfor.rewards.hierarchical.variances import Prior
from bestfor.rewards.rows import FeatureRows
from bestfor.shards import ShardEntry, write_shard
from bestfor.threads import for_size
from bestfor.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class BlockUsers:
    """Users of a block, and sums over their labels.

    Attributes:
        ids: ascending.
        labels: shape (users,), labels of each.
        sums: over all of them.
    """

    ids: tuple[str, ...]
    labels: IntArray
    sums: LabelSums


@dataclass(frozen=True)
class HierarchicalKnown:
    """Inputs of the rounds over users' posteriors.

    Attributes:
        scale: centre and unit of the utilities.
        levels: whether queries have effects of their own.
        prior: the variances.
        relative: shape (k + 1,), the noise head over s2.
        structure: in what users and queries differ.
        normal: shape (p, p), A; empty before it is known.
        right: shape (p,).
        folder: where shards are written.
        abstained: number of a block -> who abstains in it, nobody in blocks without one; None where nobody may.
    """

    scale: tuple[float, float]
    levels: bool
    prior: Prior
    relative: FloatArray
    structure: Structure
    normal: FloatArray
    right: FloatArray
    folder: Path
    abstained: dict[int, BoolArray] | None = None

    def fitted(self, posteriors: UserPosteriors) -> HierarchicalFit:
        """Put some users' posteriors into a fit."""
        head = self.relative.copy()
        head[-1] += np.log(self.prior.noise)
        return HierarchicalFit(posteriors, head, *self.scale, self.structure)


def list_users(held: tuple[LabelBlocks, Any, Any], number: int) -> BlockUsers | None:
    """Map: users of one block, and sums over their labels."""
    candidates = read_block(held[0], number)
    if candidates is None:
        return None
    sums = sum_labels(held, number)
    assert sums is not None, "there are labels"
    sums = replace(sums, text=sums.text[:0], asked=sums.asked[:0])
    return BlockUsers(candidates.users, np.bincount(candidates.user, minlength=len(candidates.users)), sums)


def rows_of_some(
    held: tuple[LabelBlocks, Hierarchical, tuple[tuple[float, float], frozenset[str] | None]], number: int
) -> tuple[tuple[str, ...], FeatureRows] | None:
    """Map: rows of the chosen users of one block (of all where nobody was chosen), and their ids."""
    labels, model, (scale, chosen) = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    kept = [code for code, user in enumerate(candidates.users) if chosen is None or user in chosen]
    if not kept:
        return None
    some = candidates.take(np.isin(candidates.user, kept))
    rows = feature_rows(model, some, scale)
    user = np.unique(rows.user, return_inverse=True)[1]
    query = np.unique(rows.query, return_inverse=True)[1]
    return tuple(candidates.users[code] for code in kept), FeatureRows(rows.z, rows.y, user, query)


def join_some(parts: list[tuple[tuple[str, ...], FeatureRows]]) -> FeatureRows:
    """Reduce: all chosen users' rows, users in the order of their ids."""
    ids = [user for users, _ in parts for user in users]
    rank = np.argsort(np.array(sorted(range(len(ids)), key=ids.__getitem__)))
    first = np.cumsum([0, *(len(users) for users, _ in parts)])
    asked = np.cumsum([0, *(int(rows.query.max()) + 1 for _, rows in parts)])
    user = rank[np.concatenate([rows.user + first[place] for place, (_, rows) in enumerate(parts)])]
    query = np.concatenate([rows.query + asked[place] for place, (_, rows) in enumerate(parts)])
    z, y = (np.concatenate([getattr(rows, name) for _, rows in parts]) for name in ("z", "y"))
    order = np.argsort(user, kind="stable")
    return FeatureRows(z[order], y[order], user[order], query[order])


def _posteriors(
    model: Hierarchical, candidates: Candidates, known: HierarchicalKnown
) -> tuple[FeatureRows, UserPosteriors]:
    rows = feature_rows(model, candidates, known.scale)
    data = _compact(rows, known)
    return rows, posteriors_of(data, known.prior, known.normal, known.right)


def _compact(rows: FeatureRows, known: HierarchicalKnown) -> Any:  # noqa: ANN401 - compact rows
    size = noise_sizes(rows.z, known.relative)
    return compress_rows_in_chunks(rows, size, levels=known.levels, slopes=known.structure.slopes)


def sum_information(
    held: tuple[LabelBlocks, Hierarchical, HierarchicalKnown], number: int
) -> tuple[FloatArray, FloatArray] | None:
    """Map: what one block's labels say of theta_0."""
    labels, model, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    with for_size(len(known.prior.shared)):
        return information(_compact(feature_rows(model, candidates, known.scale), known), known.prior)


def judge_block(held: tuple[LabelBlocks, Hierarchical, HierarchicalKnown], number: int) -> AbstainSums | None:
    """Map: sums of one block's leave-one-out errors."""
    labels, model, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    with for_size(len(known.prior.shared)):
        rows, posteriors = _posteriors(model, candidates, known)
        return abstain_sums(rows.user, *abstain_errors(rows, known.fitted(posteriors)))


def write_users(held: tuple[LabelBlocks, Hierarchical, HierarchicalKnown], number: int) -> ShardEntry:
    """Map: every user's posterior of one block, stored as the shard of the same number."""
    labels, model, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return ShardEntry()
    with for_size(len(known.prior.shared)):
        arrays: Arrays = user_arrays(_posteriors(model, candidates, known)[1])
    if known.abstained is not None:
        nobody = np.zeros(len(candidates.users), dtype=np.bool_)
        arrays["user.abstained"] = known.abstained.get(number, nobody).astype(np.uint8)
    return write_shard(known.folder, arrays, candidates.users)


def fit_hierarchical_blocks(
    work: Round, model: Hierarchical, folder: Path, rng: int
) -> tuple[list[ShardEntry], IntArray | None]:
    """Fit every user's posterior and store the shards; gives their entries, and how many abstain where some may.

    Raises:
        InputError: options that need all labels at once: a kernel, ``temper``, or a prior.
    """
    for name, expected in (("kernel", "linear"), ("temper", False), ("prior", "")):
        if getattr(model.config, name) != expected:
            found = f"{name} = {getattr(model.config, name)}"
            raise InputError(
                "reward 'hierarchical' in blocks", found, f"{name} = {expected}" if expected != "" else f"no {name}"
            )
    known = _learn(work, model, folder, rng)
    normal, right = np.diag(1 / known.prior.shared), np.zeros(len(known.prior.shared))
    for part in work.run("information", sum_information, known):
        if part is not None:
            normal += part[0]
            right += part[1]
    known = replace(known, normal=normal, right=right)
    if model.config.abstain:
        marks: dict[int, BoolArray] = {}
        if known.structure.covariance != "none":
            marks = abstained_by_block(work.run("users' errors", judge_block, known))
        known = replace(known, abstained=marks)
    entries = list(work.run("users' posteriors", write_users, known, valid=work.kept.has_shard))
    p = len(right)
    nobody = compress_rows_in_chunks(
        FeatureRows(np.zeros((1, p)), np.zeros(1), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)),
        np.ones(1),
        levels=known.levels,
    )
    one = posteriors_of(nobody, known.prior, normal, right)
    model.take_fit(known.fitted(replace(one, weights=np.zeros((0, p)), data=_without_rows(nobody))))
    return entries, abstainers(known.abstained)


def _without_rows(data: Any) -> Any:  # noqa: ANN401 - compact rows
    empty = np.zeros(0)
    return replace(data, rows=data.rows[:0], target=empty, level=empty, ends=np.zeros(1, dtype=np.int64))


def _learn(work: Round, model: Hierarchical, folder: Path, rng: int) -> HierarchicalKnown:
    """Learn what all users share but theta_0."""
    blocks = [part for part in work.run("users", list_users) if part is not None]
    sums = join_label_sums(iter([part.sums for part in blocks]), str(work.labels.folder))
    levels, p = sums.queries > sums.users, len(model.groups())
    ids = [user for part in blocks for user in part.ids]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    ranks = sampled_users(np.concatenate([part.labels for part in blocks])[order], p, rng)
    chosen = None if ranks is None else frozenset(ids[order[rank]] for rank in ranks.tolist())
    parts = [part for part in work.run("rows to learn from", rows_of_some, (sums.scale, chosen)) if part is not None]
    some = join_some(parts)
    with for_size(p):
        prior, head, structure, _ = learn_prior(
            some, model.groups(), model.config, rng=rng, structure=None, levels=levels
        )
    nothing = (np.zeros((0, 0)), np.zeros(0))
    return HierarchicalKnown(sums.scale, levels, prior, head, structure, *nothing, folder)
