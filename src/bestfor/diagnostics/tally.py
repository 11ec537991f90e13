"""What a calibration is computed from: sums over each user's predictions, gathered block by block.

A first look at all predictions finds the bins of the predicted standard deviation and whether utilities take few
values; a second one adds up. Both can be fed blocks of any size and give the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.diagnostics._special import ndtr
from bestfor.diagnostics.table.rows import LARGEST
from bestfor.types import BoolArray, FloatArray, IntArray

BINS = 10
"""Bins of the predicted standard deviation, with equally many predictions each as far as ties allow."""

FEWEST = 20
"""Predictions of a bin, at least, so that small tables get fewer bins."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Central predictive intervals whose coverage is told."""

PIT_BINS = 20

FEW_VALUES = 20
"""Utilities with at most so many distinct values (marks, votes) are discrete."""

COUNT, SQUARES, LOG_VARIANCES, ERRORS, INSIDE = 0, 1, 2, 3, 4
BINNED = INSIDE + len(LEVELS)
"""Columns of the sums: count, z^2, log sigma^2, (y - mu)^2, how many lie inside each level's interval; then for each
bin its count, sigma^2 and (y - mu)^2."""

_OCTAVE = 64.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Predictions:
    """What was predicted of candidates with known utilities, all of shape (rows,).

    Attributes:
        utility: y.
        mean: mu.
        std: sigma; rows without one between 1e-60 and 1e60 are left out.
    """

    utility: FloatArray
    mean: FloatArray
    std: FloatArray

    @property
    def usable(self) -> BoolArray:
        """Shape (rows,): whether utility and mean are finite and the variance and its inverse can be had."""
        known = (self.std >= 1 / LARGEST) & (self.std <= LARGEST)
        return np.isfinite(self.utility) & np.isfinite(self.mean) & known

    def take(self, rows: BoolArray | IntArray | slice) -> Predictions:
        """Some of the rows."""
        return Predictions(self.utility[rows], self.mean[rows], self.std[rows])


@dataclass(frozen=True)
class Layout:
    """How predictions are binned.

    Attributes:
        edges: shape (bins - 1,), upper edges of all bins but the last, on the grid of :func:`grid_of`.
        values: the distinct utilities in order where they are few, else None.
        left_out: predictions that cannot be used.
    """

    edges: IntArray
    values: tuple[float, ...] | None
    left_out: int

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.edges) + 1


def grid_of(std: FloatArray) -> IntArray:
    """Standard deviations on a logarithmic grid of 64 steps an octave (1.1 % each)."""
    return np.floor(_OCTAVE * np.log2(std)).astype(np.int64)


class FirstLook:
    """Counts standard deviations on the grid and collects distinct utilities."""

    def __init__(self) -> None:
        self._grid: dict[int, int] = {}
        self._values: set[float] = set()
        self._rows = 0
        self._left_out = 0

    def add(self, block: Predictions) -> None:
        """Look at a block."""
        usable = block.usable
        self._left_out += int((~usable).sum())
        block = block.take(usable)
        self._rows += len(block.std)
        codes, counts = np.unique(grid_of(block.std), return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self._grid[code] = self._grid.get(code, 0) + count
        if len(self._values) <= FEW_VALUES:
            self._values.update(np.unique(block.utility)[: FEW_VALUES + 1].tolist())

    def layout(self) -> Layout:
        """The bins; as many as have at least :data:`FEWEST` predictions each."""
        codes = np.array(sorted(self._grid), dtype=np.int64)
        counts = np.array([self._grid[code] for code in codes.tolist()], dtype=np.int64)
        bins = min(BINS, max(1, self._rows // FEWEST))
        wanted = np.arange(1, bins) * (self._rows / bins)
        cuts = np.unique(np.searchsorted(np.cumsum(counts), wanted - 1e-9, side="left"))
        few = 1 < len(self._values) <= FEW_VALUES and self._rows >= 5 * len(self._values)
        values = tuple(sorted(self._values)) if few else None
        return Layout(codes[cuts[cuts < len(codes) - 1]], values, self._left_out)


class Tally:
    """Adds up predictions by user.

    Attributes:
        layout: the bins.
        pit: shape (PIT_BINS,), how many predictions fall into each bin of the PIT (fractions where utilities are few).
    """

    def __init__(self, layout: Layout) -> None:
        """Nothing is counted yet.

        Args:
            layout: from a first look at the same predictions.
        """
        self.layout = layout
        self.pit: FloatArray = np.zeros(PIT_BINS)
        self._users: dict[str, int] = {}
        self._sums: FloatArray = np.zeros((0, BINNED + 3 * layout.bins))

    def add(self, names: Sequence[str], user: IntArray, block: Predictions) -> None:
        """Take a block.

        Args:
            names: ids of its users.
            user: shape (rows,), codes into ``names``.
            block: of rows.
        """
        place = np.array([self._users.setdefault(name, len(self._users)) for name in names], dtype=np.int64)
        if len(self._users) > len(self._sums):
            grown = np.zeros((max(len(self._users), 2 * len(self._sums)), self._sums.shape[1]))
            grown[: len(self._sums)] = self._sums
            self._sums = grown
        for low in range(0, len(user), _CHUNK):
            rows = slice(low, low + _CHUNK)
            part = block.take(rows)
            usable = part.usable
            self._add(place[user[rows][usable]], part.take(usable))

    def _add(self, user: IntArray, part: Predictions) -> None:
        if not len(user):
            return
        inside, pit = self._pit(part)
        self.pit += pit
        error = (part.utility - part.mean) ** 2
        variance = part.std**2
        columns = [np.ones(len(user)), error / variance, np.log(variance), error, *inside.T]
        bins = np.searchsorted(self.layout.edges, grid_of(part.std), side="left")
        users, code = np.unique(user, return_inverse=True)
        for column, values in enumerate(columns):
            self._sums[users, column] += np.bincount(code, values, len(users))
        key, cells = code * self.layout.bins + bins, len(users) * self.layout.bins
        for which, values in enumerate((np.ones(len(user)), variance, error)):
            first = BINNED + which * self.layout.bins
            found = np.bincount(key, values, cells).reshape(len(users), -1)
            self._sums[users, first : first + self.layout.bins] += found

    def _pit(self, part: Predictions) -> tuple[FloatArray, FloatArray]:
        """Mass inside each level's interval, shape (rows, levels), and in each bin, shape (PIT_BINS,).

        Where utilities take few values the prediction is rounded to them, and each observation's mass is spread evenly
        over its interval of the PIT (Czado, Gneiting & Held 2009): the expectation of the randomised PIT.
        """
        levels = np.array(LEVELS)
        if self.layout.values is None:
            point = ndtr((part.utility - part.mean) / part.std)
            place = np.minimum((point * PIT_BINS).astype(np.int64), PIT_BINS - 1)
            inside = (np.abs(point - 0.5)[:, None] <= levels / 2).astype(np.float64)
            return inside, np.bincount(place, minlength=PIT_BINS).astype(np.float64)
        low, high = self._interval(part, np.array(self.layout.values))
        edges = np.linspace(0.0, 1.0, PIT_BINS + 1)[1:-1]
        cuts = np.concatenate([edges, (1 - levels) / 2, (1 + levels) / 2])
        width = high - low
        spread = width > 1e-12
        share = (cuts - low[:, None]) / np.where(spread, width, 1.0)[:, None]
        below = np.where(spread[:, None], np.clip(share, 0.0, 1.0), (high[:, None] <= cuts).astype(np.float64))
        filled = np.diff(below[:, : len(edges)], axis=1, prepend=0.0, append=1.0)
        inside = below[:, len(edges) + len(levels) :] - below[:, len(edges) : len(edges) + len(levels)]
        return inside, filled.sum(axis=0)

    @staticmethod
    def _interval(part: Predictions, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where the prediction's distribution begins and ends to be nearest to each row's utility."""
        between = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
        place = np.searchsorted(values, part.utility)
        low, high = (ndtr((between[place + side] - part.mean) / part.std) for side in (0, 1))
        return low, high

    def sums(self) -> Sums:
        """What was counted."""
        names = np.array(list(self._users), dtype=np.str_)
        kept = np.flatnonzero(self._sums[: len(names), COUNT] > 0)
        order = kept[np.argsort(names[kept], kind="stable")]
        users = tuple(str(name) for name in names[order])
        return Sums(users, self._sums[order], self.layout.bins, self.pit, self.layout.values, self.layout.left_out)


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics of a calibration.

    Attributes:
        users: ids, sorted.
        parts: shape (users, columns), each user's sums.
        bins: of the predicted standard deviation, from small to large.
        pit: shape (PIT_BINS,).
        values: the distinct utilities where they are few, else None.
        left_out: predictions that cannot be used.
    """

    users: tuple[str, ...]
    parts: FloatArray
    bins: int
    pit: FloatArray
    values: tuple[float, ...] | None
    left_out: int

    def rebinned(self, bins: int) -> FloatArray:
        """The parts with neighbouring bins put together, shape (users, columns); at most as many bins as there are."""
        place = ((np.arange(self.bins) + 0.5) * bins // self.bins).astype(np.int64)
        result = np.zeros((len(self.parts), BINNED + 3 * bins))
        result[:, :BINNED] = self.parts[:, :BINNED]
        for which in range(3):
            own = self.parts[:, BINNED + which * self.bins : BINNED + (which + 1) * self.bins]
            for k, into in enumerate(place.tolist()):
                result[:, BINNED + which * bins + into] += own[:, k]
        return result


def pool_sums(folds: Sequence[Sums]) -> Sums:
    """The sums of several folds together: users matched by id, bins by their rank.

    Args:
        folds: at least one.
    """
    if len(folds) == 1:
        return folds[0]
    users = tuple(sorted({user for fold in folds for user in fold.users}))
    place = {user: code for code, user in enumerate(users)}
    bins = min(fold.bins for fold in folds)
    parts = np.zeros((len(users), BINNED + 3 * bins))
    for fold in folds:
        parts[[place[user] for user in fold.users]] += fold.rebinned(bins)
    known = [fold.values for fold in folds if fold.values is not None]
    values = tuple(sorted({value for one in known for value in one})) if len(known) == len(folds) else None
    pit = np.sum([fold.pit for fold in folds], axis=0)
    return Sums(users, parts, bins, pit, values, sum(fold.left_out for fold in folds))
