"""Fit ``tastes`` to blocks of users (:mod:`bestfor.rewards.tastes` has the model), where distinct texts are bounded.

1. map: the block's distinct items; labels, mean and squares of the utilities. Reduce: the items of all, in the order of
   their keys; their vectors, landmarks and priors, as in one process.
2. map: the block's labels as codes of users, queries and items, stored beside the model for the rounds that follow;
   labels and sum of every item. Reduce: add up.
3. map: R'(R Q) of the block's users, R their labels beyond the items' means, Q a basis. Reduce: add up and make it
   orthogonal (six times); then the lengths of R Q. It is the start.
4. map: q(a_u, b) of every user given q(h); of these, over users, E[a], E[aa'], of levels E[b], E[b^2], and over an
   item's labels G_t = sum E[w w'], l_t = sum E[w (y - b)], w = (1, a). Reduce: add up; give tastes mean 0 and second
   moment I, which moves the sums by one matrix T (G_t -> T'G_t T) instead of every user; then q(h) and all variances.
   As many times as the model has rounds.
5. where users may abstain, map: sums of their leave-one-out errors. Reduce: who does.
6. map: the ratings of every user, stored as the shard of the block's number.

The reduction holds the items, their vectors, and G: (k + 1)^2 numbers an item.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.artifacts import Arrays
from bestfor.data.blocks import LabelBlocks
from bestfor.errors import InputError
from bestfor.rewards.abstain import AbstainSums, abstain_sums
from bestfor.rewards.blocks.kept import KeptRounds, read_value, write_value
from bestfor.rewards.blocks.linear import abstained_by_block, abstainers
from bestfor.rewards.blocks.rounds import LabelSums, Round, join_label_sums, read_block, sum_labels
from bestfor.rewards.rows import sum_by
from bestfor.rewards.tastes.factors import (
    FLOOR,
    POWER_STEPS,
    ItemSums,
    ItemTastes,
    TasteFactors,
    Votes,
    build_votes,
    first_basis,
    left_over,
    start_of,
    sum_items,
    unit_tastes,
    update_items,
    update_users,
)
from bestfor.rewards.tastes.items import RatedItems, list_items
from bestfor.rewards.tastes.model import Tastes
from bestfor.rewards.tastes.person import UserRatings
from bestfor.rewards.tastes.priors import ItemPrior
from bestfor.shards import ShardEntry, write_shard
from bestfor.threads import for_size
from bestfor.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class BlockItems:
    """Distinct items of a block, and sums over its labels.

    Attributes:
        sums: of the labels; without texts.
        keys: of the items, ascending.
        texts: aligned with ``keys``.
        inputs: aligned with ``keys``.
    """

    sums: LabelSums
    keys: tuple[str, ...]
    texts: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class CodedLabels:
    """Labels of a block as numbers.

    Attributes:
        item: shape (m,), codes of the block's items among all, ascending.
        row: shape (n,), each label's place among them.
        user: shape (n,), codes within the block.
        query: shape (n,), likewise.
        y: shape (n,), on the standard scale.
    """

    item: IntArray
    row: IntArray
    user: IntArray
    query: IntArray
    y: FloatArray

    def votes(self) -> Votes:
        """Sum the labels by query and item of the block."""
        return build_votes(self.y, self.user, self.query, self.row)

    def ratings(self) -> UserRatings:
        """Sort the labels by user; items have their codes among all."""
        return UserRatings.build(int(self.user.max()) + 1, self.user, self.item[self.row], self.query, self.y)


@dataclass(frozen=True)
class ItemCounts:
    """Labels of a block's items.

    Attributes:
        item: shape (m,), codes among all items.
        count: shape (m,), labels.
        total: shape (m,), their sum.
        square: sum of all squared labels.
    """

    item: IntArray
    count: FloatArray
    total: FloatArray
    square: float


@dataclass(frozen=True)
class TasteSums:
    """Sums over users whose q(a_u, b) is as their labels give it, neither centred nor scaled; they add up.

    Attributes:
        item: shape (m,), codes among all items.
        items: sums over the labels of these.
        users: how many.
        queries: how many.
        taste: shape (k,), sum of E[a_u].
        moment: shape (k, k), sum of E[a_u a_u'].
        level: sum of E[b_q] over queries.
        level_square: sum of E[b_q^2] over queries.
        total: sum of y over labels.
        labelled: sum of E[b_q] over labels.
    """

    item: IntArray
    items: ItemSums
    users: int
    queries: int
    taste: FloatArray
    moment: FloatArray
    level: float
    level_square: float
    total: float
    labelled: float


def list_block_items(held: tuple[LabelBlocks, Tastes, Any], number: int) -> BlockItems | None:
    """Map: distinct items of one block, and sums over its labels.

    Raises:
        InputError: more distinct texts than the model takes.
    """
    candidates = read_block(held[0], number)
    if candidates is None:
        return None
    items = list_items(candidates)
    held[1].check_items(len(items.keys))
    sums = sum_labels(held, number)
    assert sums is not None, "there are labels"
    return BlockItems(replace(sums, text=sums.text[:0], asked=sums.asked[:0]), items.keys, items.texts, items.inputs)


def join_items(parts: Iterable[BlockItems | None], model: Tastes, where: str) -> tuple[RatedItems, LabelSums]:
    """Reduce: items of all blocks in the order of their keys, and the sums over all labels.

    Raises:
        InputError: too many distinct texts, or no labels at all.
    """
    named: dict[str, tuple[str, str]] = {}
    sums: list[LabelSums | None] = []
    for part in parts:
        if part is not None:
            named.update(zip(part.keys, zip(part.texts, part.inputs, strict=True), strict=True))
            model.check_items(len(named))
            sums.append(part.sums)
    keys = tuple(sorted(named))
    texts, inputs = (tuple(named[key][place] for key in keys) for place in (0, 1))
    return RatedItems(keys, texts, inputs, np.arange(len(keys))), join_label_sums(iter(sums), where)


@dataclass(frozen=True)
class CodesKnown:
    """Inputs of the round that writes labels as numbers.

    Attributes:
        kept: where they are written.
        scale: centre and unit of the utilities.
        keys: of all items, ascending.
    """

    kept: KeptRounds
    scale: tuple[float, float]
    keys: tuple[str, ...]


def code_block(held: tuple[LabelBlocks, Any, CodesKnown], number: int) -> ItemCounts | None:
    """Map: store one block's labels as numbers, and count those of every item."""
    labels, _, known = held
    candidates = read_block(labels, number)
    if candidates is None:
        return None
    items = list_items(candidates)
    place = {key: code for code, key in enumerate(known.keys)}
    item = np.array([place[key] for key in items.keys], dtype=np.int64)
    y = (candidates.utility - known.scale[0]) / known.scale[1]
    write_value(coded_file(known.kept, number), CodedLabels(item, items.row, candidates.user, candidates.query, y))
    count = np.bincount(items.row, minlength=len(item)).astype(np.float64)
    total = sum_by(items.row, y, len(item))
    return ItemCounts(item, count, total, float(y @ y))


def coded_file(kept: KeptRounds, number: int) -> Path:
    """Name the file of a block's labels as numbers."""
    return kept.file("labels as numbers", f"coded-{number:06}")


def read_coded(kept: KeptRounds, number: int) -> CodedLabels | None:
    """Read one block's labels as numbers; None where it has none.

    Raises:
        InputError: the file is damaged.
    """
    path = coded_file(kept, number)
    try:
        found: CodedLabels = read_value(path, read_coded)
    except FileNotFoundError:
        return None
    except ValueError as error:
        expected = "labels of a round; remove the folder and fit again"
        raise InputError(str(path), "a damaged file", expected) from error
    return found


def sum_start(held: tuple[Any, Any, tuple[KeptRounds, FloatArray, FloatArray]], number: int) -> Any:  # noqa: ANN401
    """Map: items of one block and R'(R Q) there, shape (m, k); and the squared lengths of R Q, shape (k,)."""
    kept, general, basis = held[2]
    coded = read_coded(kept, number)
    if coded is None:
        return None
    remains = left_over(coded.votes(), general[coded.item])
    seen = remains @ basis[coded.item]
    return coded.item, remains.T @ seen, np.sum(seen**2, axis=0)


def sum_users(held: tuple[Any, Any, tuple[KeptRounds, ItemTastes]], number: int) -> TasteSums | None:
    """Map: update q(a_u, b) of one block's users given q(h), and sum up."""
    kept, shared = held[2]
    coded = read_coded(kept, number)
    if coded is None:
        return None
    votes, none = coded.votes(), np.zeros(0)
    item = (shared.mean[coded.item], shared.variance[coded.item])
    fixed = (shared.scale, shared.noise, shared.level_scale)
    state = update_users(votes, TasteFactors(none, none, none, none, none, *item, *fixed))
    counts = votes.present.sum(axis=1)
    return TasteSums(
        item=coded.item,
        items=sum_items(votes, state),
        users=len(state.taste),
        queries=len(state.level),
        taste=state.taste.sum(axis=0),
        moment=state.taste.T @ state.taste + state.spread.sum(axis=0),
        level=float(state.level.sum()),
        level_square=float(np.sum(state.level**2 + state.level_variance)),
        total=float(coded.y.sum()),
        labelled=float(counts @ state.level),
    )


def join_user_sums(parts: Iterable[TasteSums | None], items: int) -> TasteSums:
    """Reduce: add up, with a row for every one of so many items."""
    whole: TasteSums | None = None
    for part in parts:
        if part is None:
            continue
        if whole is None:
            columns = len(part.taste) + 1
            none = ItemSums(np.zeros((items, columns, columns)), np.zeros((items, columns)), 0.0, 0.0, 0.0, 0.0)
            k = columns - 1
            whole = TasteSums(np.arange(items), none, 0, 0, np.zeros(k), np.zeros((k, k)), 0.0, 0.0, 0.0, 0.0)
        gram, linear = whole.items.gram, whole.items.linear
        gram[part.item] += part.items.gram
        linear[part.item] += part.items.linear
        names = ("answered", "levels", "square", "labels")
        numbers = [getattr(whole.items, name) + getattr(part.items, name) for name in names]
        names = ("users", "queries", "taste", "moment", "level", "level_square", "total", "labelled")
        added = {name: getattr(whole, name) + getattr(part, name) for name in names}
        whole = TasteSums(item=whole.item, items=ItemSums(gram, linear, *numbers), **added)
    assert whole is not None, "there are labels"
    return whole


def standardise_sums(sums: TasteSums, shared: ItemTastes) -> tuple[ItemTastes, ItemSums]:
    """Move means into h_0 and give tastes unit second moment: what a process does with every user, of the sums."""
    centre, level = sums.taste / sums.users, sums.level / sums.queries
    item, k = shared.mean.copy(), len(centre)
    item[:, 0] += item[:, 1:] @ centre + level
    turn = np.eye(k + 1)
    if k:
        moment = sums.moment / sums.users - np.outer(centre, centre)
        item[:, 1:], change = unit_tastes(item[:, 1:], moment)
        turn[1:, 1:], turn[0, 1:] = change, -centre @ change
    level_scale = max(sums.level_square / sums.queries - level**2, FLOOR)
    gram = turn.T @ sums.items.gram @ turn
    linear = sums.items.linear @ turn + level * gram[:, 0]
    labels = sums.items.labels
    answered = sums.items.answered - level * sums.total
    levels = sums.items.levels - 2 * level * sums.labelled + level**2 * labels
    moved = ItemSums(gram, linear, answered, levels, sums.items.square, labels)
    return replace(shared, mean=item, level_scale=level_scale), moved


def judge_tastes(held: tuple[LabelBlocks, Tastes, KeptRounds], number: int) -> AbstainSums | None:
    """Map: sums of one block's leave-one-out errors; the model knows what users share."""
    _, model, kept = held
    coded = read_coded(kept, number)
    if coded is None:
        return None
    ratings = coded.ratings()
    model = copy.copy(model)
    model.take_fit(model.shared, ratings)
    with for_size(len(model.shared.mean)):
        return abstain_sums(ratings.owner, *model.left_out_errors())


def write_ratings(
    held: tuple[LabelBlocks, Any, tuple[KeptRounds, dict[int, BoolArray] | None]], number: int
) -> ShardEntry:
    """Map: every user's ratings of one block, stored as the shard of the same number."""
    labels, _, (kept, abstained) = held
    coded, candidates = read_coded(kept, number), read_block(labels, number)
    if coded is None or candidates is None:
        return ShardEntry()
    arrays: Arrays = coded.ratings().arrays()
    if abstained is not None:
        arrays["user.abstained"] = abstained[number].astype(np.uint8)
    return write_shard(kept.folder, arrays, candidates.users)


def fit_tastes_blocks(work: Round, model: Tastes, rng: int) -> tuple[list[ShardEntry], IntArray | None]:
    """Fit what users share and store everybody's ratings as shards; gives their entries, and who abstains.

    Raises:
        InputError: too many distinct texts.
    """
    where = str(work.labels.folder)
    items, sums = join_items(work.run("distinct texts", list_block_items), model, where)
    priors = model.take_items(items, sums.scale)
    work = replace(work, kept=work.kept.keyed(model.vectors))
    kept, alone = work.kept, replace(work, model=None)
    known = CodesKnown(kept, sums.scale, items.keys)

    def coded(number: int, found: ItemCounts | None) -> bool:
        return found is None or coded_file(kept, number).is_file()

    parts = list(alone.run("labels as numbers", code_block, known, valid=coded))
    with for_size(len(items.keys)):
        shared = _learn(alone, priors, parts, (sums.users, *model.sizes(sums.users)), rng)
    model.take_fit(shared, UserRatings.none())
    marks: dict[int, BoolArray] | None = None
    if model.config.abstain:
        marks = abstained_by_block(work.run("users' errors", judge_tastes, kept))
    entries = list(alone.run("users' ratings", write_ratings, (kept, marks), valid=kept.has_shard))
    return entries, abstainers(marks)


def _learn(
    work: Round, priors: Sequence[ItemPrior], parts: list[ItemCounts | None], sizes: tuple[int, int, int], rng: int
) -> ItemTastes:
    """Learn q(h) in rounds over all blocks; what a round gave is kept, so that a fit goes on with the next.

    Args:
        work: the rounds.
        priors: of h.
        parts: labels of items, by block.
        sizes: number of users, of tastes and of rounds.
        rng: seed of the start.
    """
    users, tastes, rounds = sizes
    path = work.kept.file("tastes", "shared")
    try:
        done, shared = read_value(path, _learn)
    except (FileNotFoundError, ValueError):
        done, shared = 0, _start(work, parts, (users, tastes, priors[0].items), rng)
        write_value(path, (done, shared))
    for turn in range(done, rounds):
        found = work.run(f"tastes, round {turn + 1} of {rounds}", sum_users, (work.kept, shared), keep=False)
        shared, sums = standardise_sums(join_user_sums(found, priors[0].items), shared)
        shared = update_items(shared, sums, priors)
        write_value(path, (turn + 1, shared))
    return shared


def _start(work: Round, parts: list[ItemCounts | None], sizes: tuple[int, int, int], rng: int) -> ItemTastes:
    """Start from the means of items and singular vectors of the rest (:func:`factors.spectral_start` in rounds)."""
    users, tastes, items = sizes
    count, total, square = np.zeros(items), np.zeros(items), 0.0
    for part in parts:
        if part is not None:
            count[part.item] += part.count
            total[part.item] += part.total
            square += part.square
    general, path = total / (count + 1), work.kept.file("tastes", "start")
    try:
        done, basis = read_value(path, _start)
    except (FileNotFoundError, ValueError):
        done, basis = 0, first_basis(items, tastes, rng)
    for step in range(done, POWER_STEPS if tastes else 0):
        basis = np.linalg.qr(_sum_start(work, f"start {step + 1}", general, basis)[0])[0]
        write_value(path, (step + 1, basis))
    norms = np.sqrt(_sum_start(work, "start", general, basis)[1]) if tastes else np.zeros(0)
    return start_of(general, basis, norms, tastes, (users, float(count.sum()), square))


def _sum_start(work: Round, name: str, general: FloatArray, basis: FloatArray) -> tuple[FloatArray, FloatArray]:
    product, squares = np.zeros(basis.shape), np.zeros(basis.shape[1])
    for part in work.run(f"tastes, {name}", sum_start, (work.kept, general, basis), keep=False):
        if part is not None:
            product[part[0]] += part[1]
            squares += part[2]
    return product, squares
