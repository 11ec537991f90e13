"""Train heads: AdamW in minibatches over all users at once, stopped where held-out labels say so.

A row's weights are gathered by its user's code, so a step costs the same whether its rows belong to one user or to
many. The shared head, users' deviations from it, and the levels of queries and texts have Gaussian priors in units of
the noise. What is kept is a moving average of the weights over about one epoch of steps (Polyak & Juditsky 1992). One
thread, so that a seed gives the same bits on any number of cores. Errors of users' own heads and of the shared one
on the held-out labels say who abstains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding

from bestfor import rng
from bestfor.rewards.heads import losses
from bestfor.rewards.heads.labels import HeadLabels, partners
from bestfor.rewards.heads.settings import LEVEL_PRECISION, TrainingOptions
from bestfor.threads import one_thread
from bestfor.types import FloatArray, IntArray

Weights = dict[str, Tensor]
HeldOutErrors = tuple[IntArray, FloatArray, FloatArray]

ROWS = 1 << 15
"""Rows that are predicted at a time."""
BATCHES = 24
LEAST_BATCH = 32
LEAST_HELD_OUT = 20
UNSTOPPED = 8
PAIRS_HELD_OUT = 4
GAIN = 5e-4
TEXT_PRECISION = 4.0


@dataclass(frozen=True)
class TrainedWeights:
    """Weights that a training found, with the epochs and the noise.

    Attributes:
        weights: float32 arrays by name.
        epochs: how many it took, warm-up included.
        noise: mean squared held-out error over the predicted variance (over 1 where none is predicted), levels of
            queries not known; 1 where nothing was held out or rows are only compared.
        held: users of held-out rows and how far their own and the shared head err there, each (k,); None where nothing
            was held out or nobody abstains.
    """

    weights: dict[str, npt.NDArray[np.float32]]
    epochs: int
    noise: float
    held: HeldOutErrors | None = None


def train(labels: HeadLabels, training: TrainingOptions, seed: int, epochs: int | None = None) -> TrainedWeights:
    """Find when to stop on held-out labels, then train on all labels for as long.

    Args:
        labels: rows to learn from.
        training: the settings.
        seed: of first weights, held-out rows and orders.
        epochs: how long, where it is known already; nothing is held out then.
    """
    # One thread, so that sums have one order.
    with one_thread():
        everything = np.arange(len(labels.target))
        kept, held = labels.hold_out(training.held_out, rng.derive(seed, "held out"))
        if epochs is None and training.held_out == 0:
            epochs = training.epochs
        elif epochs is None and (len(held) < LEAST_HELD_OUT or len(kept) == 0):
            epochs = min(training.epochs, training.warm_up + UNSTOPPED)
        noise, errors, run = 1.0, None, HeadTrainer(labels, training, seed)
        if epochs is None:
            weights, epochs, noise = _stop_early(run, kept, held)
            errors = held_out_errors(run, weights, kept, held) if training.abstain else None
            if not training.refit:
                return TrainedWeights(_arrays(weights), epochs, noise, errors)
            run = HeadTrainer(labels, training, seed)
        for number in range(epochs):
            run.epoch(everything, number)
        return TrainedWeights(_arrays(run.average), epochs, noise, errors)


class HeadTrainer:
    """One training run from its first weights.

    Args:
        labels: rows to learn from.
        training: the settings.
        seed: of first weights and orders of rows.
    """

    def __init__(self, labels: HeadLabels, training: TrainingOptions, seed: int) -> None:
        self.labels, self.training, self.seed = labels, training, seed
        self.x, self.y, self.weight = _tensor(labels.values), _tensor(labels.target), _tensor(labels.weight)
        self.codes = {name: torch.from_numpy(getattr(labels, name)) for name in ("user", "query", "text")}
        self.weights = self._first_weights()
        self.average = {name: value.clone() for name, value in self.weights.items()}
        precisions = self._precisions()
        trained = {name: value.requires_grad_() for name, value in self.weights.items() if self._is_trained(name)}
        self.trained = list(trained)
        half = 0.5 / max(float(labels.weight.sum()), 1.0)
        self.priors = [(half * precisions[name], value) for name, value in trained.items() if name in precisions]
        body = [value for name, value in trained.items() if name not in precisions]
        heads = [value for _, value in self.priors]
        groups = [{"params": body, "weight_decay": training.decay}, {"params": heads, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=training.rate, fused=True)

    def _first_weights(self) -> Weights:
        labels, hidden = self.labels, self.training.hidden
        width = labels.values.shape[1]
        columns = width + hidden + 1
        body = rng.derive(self.seed, "body").normal(size=(width, hidden)) / math.sqrt(max(width, 1))
        shapes = {"shared": (columns,), "own": (labels.users, columns)}
        shapes |= {"spread": (columns,), "own_spread": (labels.users, columns)}
        shapes |= {"query": (int(labels.query.max()) + 1, 1), "text": (int(labels.text.max()) + 1, 1)}
        first = {"body": _tensor(body), "body_shift": torch.zeros(hidden)}
        return first | {name: torch.zeros(shape) for name, shape in shapes.items()}

    def _precisions(self) -> Weights:
        """Prior precisions of every head's columns, the last of which is the intercept, and of levels."""
        columns = len(self.weights["shared"])
        each, level = torch.full((columns,), float(columns)), torch.ones(1)
        each[-1] = LEVEL_PRECISION
        own = self.training.deviation * each
        own[-1] = LEVEL_PRECISION
        found = {"shared": each, "own": own, "spread": each, "own_spread": self.training.spread * own}
        return found | {"query": LEVEL_PRECISION * level, "text": TEXT_PRECISION * level}

    def _is_trained(self, name: str) -> bool:
        training = self.training
        if name.startswith("body"):
            return training.hidden > 0
        if name == "query":
            return self.labels.query_levels and not (training.pairwise and training.pairs == "query")
        if name == "text":
            return self.labels.text_levels
        if name.endswith("spread") and not training.gaussian:
            return False
        return training.shared or name.startswith("own")

    def epoch(self, rows: IntArray, number: int) -> None:
        """Train on rows once, in an order that the number of the pass decides."""
        draw = rng.derive(self.seed, "epoch", number)
        order = draw.permutation(rows)
        other = partners(order, rows, self.groups(), draw) if self.training.pairwise else order
        size = min(self.training.batch, max(LEAST_BATCH, -(-len(rows) // BATCHES)))
        steps = -(-len(order) // size)
        warming = self.training.gaussian and number < self.training.warm_up
        for start in range(0, len(order), size):
            batch, against = (torch.from_numpy(part[start : start + size]) for part in (order, other))
            values = self.losses(batch, against, self.weights, warming=warming)
            loss = (values * self.weight[batch]).mean()
            if self.training.pairwise:
                for precision, value in self.priors:
                    loss = loss + (precision * value.square()).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            with torch.no_grad():
                if not self.training.pairwise:
                    # The gradient of the sum above, to the same bits, without its passes over all users.
                    for precision, value in self.priors:
                        prior = value * (2 * precision)
                        value.grad = prior if value.grad is None else value.grad.add_(prior)
                self.optimizer.step()
                for name in self.trained:
                    self.average[name].lerp_(self.weights[name], 1.0 / steps)

    def groups(self) -> IntArray:
        """Codes of the groups within which pairs are formed, shape (n,)."""
        group = self.labels.user if self.training.pairs == "user" else self.labels.query
        if self.labels.pair is None:
            return group
        return np.where(self.labels.pair < 0, group, int(group.max()) + 1 + self.labels.pair)

    def held_out_pairs(self, held: IntArray) -> tuple[IntArray, IntArray]:
        """Held-out rows and their partners: several others where rows are compared, else themselves."""
        if not self.training.pairwise:
            return held, held
        rows, everything = np.repeat(held, PAIRS_HELD_OUT), np.arange(len(self.labels.target))
        return rows, partners(rows, everything, self.groups(), rng.derive(self.seed, "held-out pairs"))

    def losses(
        self, rows: Tensor, other: Tensor, weights: Weights, *, warming: bool, beta: float | None = None
    ) -> Tensor:
        """Loss of each row, or of each row against another, shape (k,)."""
        columns = self._columns(rows, weights)
        mean = self._head(columns, rows, weights, "shared", "own")
        if self.training.pairwise:
            against = self._head(self._columns(other, weights), other, weights, "shared", "own")
            sign = torch.sign(self.y[rows] - self.y[other])
            pair = (sign * (mean + self._levels(rows, weights)), sign * (against + self._levels(other, weights)))
            return sign.abs() * losses.pairwise_logistic(*pair)
        target = self.y[rows] - self._levels(rows, weights)
        if warming or not self.training.gaussian:
            return losses.squared_error(mean, target)
        mean, log_variance = self._moments(mean, self._head(columns, rows, weights, "spread", "own_spread"))
        return losses.gaussian_nll(mean, log_variance, target, self.training.beta if beta is None else beta)

    def relative_squares(self, rows: Tensor, weights: Weights) -> Tensor:
        """Squared error over predicted variance of each row, without its query's level, shape (k,)."""
        mean, log_variance = self.moments(rows, weights)
        return (self.y[rows] - mean).square() / log_variance.exp()

    def moments(self, rows: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (0 where none is learned) of each row, without its query's level, each (k,)."""
        columns = self._columns(rows, weights)
        mean = self._head(columns, rows, weights, "shared", "own")
        if not self.training.gaussian:
            return mean, torch.zeros(len(rows))
        return self._moments(mean, self._head(columns, rows, weights, "spread", "own_spread"))

    def without_users(self, weights: Weights) -> Weights:
        """Weights under which everybody is served as a user without labels."""
        own = {name: weights[name] for name in ("own", "own_spread")}
        if self.training.shared:
            return weights | {name: torch.zeros_like(value) for name, value in own.items()}
        return weights | {name: value[-1:].expand_as(value) for name, value in own.items()}

    def _columns(self, rows: Tensor, weights: Weights) -> Tensor:
        parts = [self.x[rows], torch.ones(len(rows), 1)]
        if self.training.hidden:
            parts.insert(1, torch.tanh(parts[0] @ weights["body"] + weights["body_shift"]))
        return torch.cat(parts, 1)

    def _head(self, columns: Tensor, rows: Tensor, weights: Weights, shared: str, own: str) -> Tensor:
        deviations = embedding(self.codes["user"][rows], weights[own])
        return columns @ weights[shared] + (columns * deviations).sum(1)

    def _levels(self, rows: Tensor, weights: Weights) -> Tensor:
        """Levels of a row's query and text beyond their features, shape (k,)."""
        total = torch.zeros(len(rows))
        for name in ("query", "text"):
            if self._is_trained(name):
                total = total + embedding(self.codes[name][rows], weights[name])[:, 0]
        return total

    def _moments(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        if self.training.objective == "natural":
            return losses.natural_moments(first, second)
        return first, losses.clamped(second)


def _stop_early(run: HeadTrainer, kept: IntArray, held: IntArray) -> tuple[Weights, int, float]:
    """Train on kept rows until held-out ones gain no more: the best weights, their epochs, and the held-out noise."""
    training = run.training
    rows, against = (torch.from_numpy(part) for part in run.held_out_pairs(held))
    best, found, epochs = math.inf, run.average, 0
    for number in range(training.epochs):
        run.epoch(kept, number)
        if number < training.warm_up:
            continue
        with torch.no_grad():
            value = float(run.losses(rows, against, run.average, warming=False, beta=0.0).mean())
        if value < best - GAIN:
            best, epochs = value, number + 1
            found = {name: weight.clone() for name, weight in run.average.items()}
        elif number + 1 - epochs >= training.patience:
            break
    epochs = epochs or training.epochs
    with torch.no_grad():
        noise = 1.0 if training.pairwise else float(run.relative_squares(rows, found).mean())
    return found, epochs, max(noise, 1e-6)


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _arrays(weights: Weights) -> dict[str, npt.NDArray[np.float32]]:
    return {name: value.detach().numpy() for name, value in weights.items()}


def held_out_errors(run: HeadTrainer, weights: Weights, kept: IntArray, held: IntArray) -> HeldOutErrors:
    """Errors of held-out rows under users' own heads and under the head of users without labels.

    Where rows are only compared, the root of their mean logistic loss over pairs that are no ties; else y - m, with
    a query's mean error over its kept rows taken off where queries have levels, since a level moves no pick.

    Args:
        run: the training that did not see the held-out rows.
        weights: what it found.
        kept: rows it saw.
        held: rows it did not see.

    Returns:
        User codes and both errors of the held-out rows, each (k,); NaN where a row says nothing.
    """
    held = held[run.labels.user[held] < run.labels.people]
    measure = _pair_errors if run.training.pairwise else _mean_errors
    with torch.no_grad():
        personal, shared = (measure(run, those, kept, held) for those in (weights, run.without_users(weights)))
    return run.labels.user[held], personal, shared


def _mean_errors(run: HeadTrainer, weights: Weights, kept: IntArray, held: IntArray) -> FloatArray:
    labels, error = run.labels, np.full(len(run.labels.target), np.nan)
    rows = np.concatenate([kept, held]) if labels.query_levels else held
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        mean, _ = run.moments(torch.from_numpy(part), weights)
        error[part] = labels.target[part] - mean.numpy()
    if not labels.query_levels:
        return error[held]
    known = kept[labels.user[kept] < labels.people]
    count = np.bincount(labels.query[known], minlength=int(labels.query.max()) + 1)
    with np.errstate(invalid="ignore"):
        level = np.bincount(labels.query[known], error[known], minlength=len(count)) / count
    return error[held] - level[labels.query[held]]


def _pair_errors(run: HeadTrainer, weights: Weights, kept: IntArray, held: IntArray) -> FloatArray:
    del kept
    rows, others = run.held_out_pairs(held)
    pair = (torch.from_numpy(rows), torch.from_numpy(others))
    loss = run.losses(*pair, weights, warming=False).numpy().astype(np.float64).reshape(len(held), -1)
    differ = (run.labels.target[rows] != run.labels.target[others]).reshape(loss.shape)
    count = differ.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.sum(loss * differ, axis=1) / count)
