"""Rounds of a fit in blocks: what a task holds and reads, and how a backend is asked for one of every block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from bestfor.backends import Backend, Plan, PlanTask
from bestfor.data.blocks import LabelBlocks
from bestfor.data.candidates import Candidates
from bestfor.data.text import Hashes, hash_strings
from bestfor.errors import InputError
from bestfor.progress import Progress
from bestfor.rewards.blocks.kept import KeptRounds, read_value, write_value
from bestfor.rewards.learner import LinearLearner
from bestfor.rewards.model import RewardModel
from bestfor.rewards.rows import FeatureRows, canonical, with_intercept
from bestfor.types import FloatArray, IntArray

Value = TypeVar("Value")
SPACE_ROWS = 200_000
"""Labels from whose texts features are learned: those of the first blocks."""
PATIENCE = 5.0
"""Seconds of a round before a bar is drawn."""
CONSOLIDATE = 1 << 22
"""Counts of texts that are held before those of equal texts are added up."""


@dataclass(frozen=True)
class Round:
    """Inputs that the tasks of a round share: labels, the model as far as it is known, and what earlier rounds gave.

    Attributes:
        labels: in blocks.
        model: its features; for the linear kinds.
        backend: does the tasks.
        kept: where what they made is kept until the model is made.
    """

    labels: LabelBlocks
    model: Any
    backend: Backend
    kept: KeptRounds

    def run(
        self,
        name: str,
        work: Callable[[Any, int], Value],
        known: Any = None,  # noqa: ANN401 - of the round
        *,
        keep: bool = True,
        valid: Callable[[int, Value], bool] | None = None,
    ) -> Iterator[Value]:
        """Do one task for every block, and give what they made in the order of the blocks.

        Args:
            name: of the round, for errors; no other round of the fit has it.
            work: at the top of a module; called with ``(labels, model, known)`` and a block's number.
            known: what it takes beside labels and model.
            keep: whether a fit that goes on does without what was done.
            valid: whether what was kept of a block still holds.
        """
        found = {
            number: one
            for number in range(self.labels.count)
            if keep and (one := self._stored(name, number, work, valid))
        }
        held = (self.labels, self.model, known)
        tasks = [PlanTask(f"block {number}", (number,)) for number in range(self.labels.count) if number not in found]
        made = self.backend.run(Plan(name, work, tasks, held=held, portable=True)) if tasks else None
        with Progress(f"{name}, blocks", self.labels.count, len(found), after=PATIENCE) as progress:
            try:
                for number in range(self.labels.count):
                    if number in found:
                        yield read_value(found[number], work)
                        continue
                    assert made is not None, "there are tasks"
                    _, value = next(made)
                    if keep:
                        write_value(self._file(name, number), value)
                    progress.advance()
                    yield value
            finally:
                if made is not None:
                    made.close()

    def _stored(
        self, name: str, number: int, work: Callable[..., Any], valid: Callable[[int, Any], bool] | None
    ) -> Path | None:
        """Find what was kept of a block and can be read, None where there is nothing."""
        path = self._file(name, number)
        try:
            value = read_value(path, work)
        except (FileNotFoundError, ValueError):
            return None
        return path if valid is None or valid(number, value) else None

    def _file(self, name: str, number: int) -> Path:
        return self.kept.file(name, f"block-{number:06}")


def read_block(labels: LabelBlocks, number: int) -> Candidates | None:
    """Read one block's labels in canonical order; None where it has no users.

    Raises:
        InputError: a utility is missing.
    """
    found = labels.read(number)
    if found is None:
        return None
    bad = np.flatnonzero(~np.isfinite(found.utility))
    if len(bad):
        where = f"block {number} of {labels.folder}, query '{found.queries[found.query[bad[0]]]}'"
        raise InputError(where, f"no utility ({len(bad)} such rows)", "finite utilities; leave unlabelled rows out")
    return canonical(found)


def feature_rows(model: LinearLearner, candidates: Candidates, scale: tuple[float, float]) -> FeatureRows:
    """Features and an intercept of some labels, utilities on the standard scale (their centre and unit are given)."""
    target = (candidates.utility - scale[0]) / scale[1]
    return FeatureRows(with_intercept(model.features(candidates)), target, candidates.user, candidates.query)


@dataclass(frozen=True)
class LabelSums:
    """Sums over labels of some users, which add up.

    Attributes:
        rows: how many labels.
        mean: of their utilities.
        square: sum of squared differences from it.
        users: how many users.
        queries: how many queries.
        text: 64-bit hashes of the distinct texts; two texts with one hash only share an effect.
        asked: shape (texts,), queries that each stands in.
    """

    rows: int
    mean: float
    square: float
    users: int
    queries: int
    text: Hashes
    asked: IntArray

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the utilities, 1 where they do not vary."""
        return self.mean, float(np.sqrt(self.square / self.rows)) or 1.0


def sum_labels(held: tuple[LabelBlocks, RewardModel, Any], number: int) -> LabelSums | None:
    """Map: counts, mean and squares of one block's utilities, and queries by text."""
    candidates = read_block(held[0], number)
    if candidates is None:
        return None
    utility, mean = candidates.utility, float(np.mean(candidates.utility))
    pairs = np.unique(np.column_stack([candidates.text, candidates.query]), axis=0)
    text, asked = np.unique(pairs[:, 0], return_counts=True)
    hashes = hash_strings(pa.array([candidates.texts[code] for code in text.tolist()], pa.large_string()))
    counts = len(utility), mean, float(np.sum((utility - mean) ** 2)), len(candidates.users), len(candidates.queries)
    return LabelSums(*counts, *_by_text([hashes], [asked.astype(np.int64)]))


def join_label_sums(parts: Iterator[LabelSums | None], where: str) -> LabelSums:
    """Reduce: add up what :func:`sum_labels` gave (means and squares by Chan, Golub & LeVeque 1983).

    Raises:
        InputError: no labels at all.
    """
    rows = users = queries = 0
    mean = square = 0.0
    texts: list[Hashes] = []
    asked: list[IntArray] = []
    for part in parts:
        if part is None:
            continue
        whole, away = rows + part.rows, part.mean - mean
        square += part.square + away**2 * rows * part.rows / whole
        mean += away * part.rows / whole
        rows, users, queries = whole, users + part.users, queries + part.queries
        texts.append(part.text)
        asked.append(part.asked)
        if len(texts) > 1 and sum(map(len, texts[1:])) > max(CONSOLIDATE, len(texts[0])):
            joined = _by_text(texts, asked)
            texts, asked = [joined[0]], [joined[1]]
    if not rows:
        raise InputError(where, "no labels", "labelled candidates")
    return LabelSums(rows, mean, square, users, queries, *_by_text(texts, asked))


def _by_text(texts: list[Hashes], asked: list[IntArray]) -> tuple[Hashes, IntArray]:
    every, counts = np.concatenate(texts), np.concatenate(asked)
    order = np.argsort(every, kind="stable")
    every, counts = every[order], counts[order]
    starts = np.flatnonzero(np.r_[True, every[1:] != every[:-1]]) if len(every) else np.zeros(0, dtype=np.int64)
    return every[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def first_rows(labels: LabelBlocks, rows: int) -> Candidates:
    """Join the labels of the first blocks that together have so many, in canonical order.

    Raises:
        InputError: no labels at all.
    """
    found: list[Candidates] = []
    for number in range(labels.count):
        candidates = read_block(labels, number)
        if candidates is not None:
            found.append(candidates)
        if sum(map(len, found)) >= rows:
            break
    if not found:
        raise InputError(str(labels.folder), "no labels", "labelled candidates")
    return found[0] if len(found) == 1 else canonical(join_candidates(found))


def join_candidates(parts: list[Candidates]) -> Candidates:
    """Join the rows of several blocks, which share no users; a query's id may stand in several."""
    offsets = {
        name: np.cumsum([0, *(len(getattr(one, name)) for one in parts)]) for name in ("users", "queries", "texts")
    }

    def codes(name: str, table: str) -> IntArray:
        return np.concatenate([getattr(one, name) + offsets[table][place] for place, one in enumerate(parts)])

    def values(name: str) -> FloatArray:
        return np.concatenate([getattr(one, name) for one in parts])

    return Candidates(
        users=tuple(user for one in parts for user in one.users),
        queries=tuple(query for one in parts for query in one.queries),
        inputs=tuple(given for one in parts for given in one.inputs),
        texts=tuple(text for one in parts for text in one.texts),
        user=codes("user", "users"),
        query=codes("query", "queries"),
        text=codes("text", "texts"),
        candidate=np.concatenate([one.candidate for one in parts]),
        utility=values("utility"),
        logprob=values("logprob"),
    )
