"""User reward models as heads on frozen features: a shared body, and a mean (and log-variance) head for every user.

    phi(x) = [x, tanh(W'x + b), 1],   m = phi'(v + v_u),   log s^2 = phi'(a + a_u)

The siblings ``point``, ``gaussian`` and ``bradley_terry`` differ in the loss alone, so that their figures compare what
Zhang & He 2026 compare. Training needs torch (:mod:`bestfor.rewards.heads.training`), prediction does not.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.extras import require
from bestfor.rewards.abstain import abstaining
from bestfor.rewards.base_rows import WITHOUT_BASE, BaseRows, restore_base_rows
from bestfor.rewards.features import FeatureConfig
from bestfor.rewards.heads.labels import HeadLabels, build_labels, with_pooled_user, with_preferences
from bestfor.rewards.heads.last_layer import LastLayer
from bestfor.rewards.heads.settings import Objective, TrainingOptions
from bestfor.rewards.heads.user_heads import UserHeads, restore_heads
from bestfor.rewards.learner import BaseLabels, LabelTexts, LinearLearner, Units
from bestfor.rewards.posterior import Belief, PreferredRows, RatedRows
from bestfor.types import BoolArray, FloatArray, IntArray, RewardEstimate


class HeadsConfig(FeatureConfig):
    """Features, the body, and its training.

    Attributes:
        shared: whether users share a body and a head from which theirs deviate; otherwise every user has a linear head
            of their own, and users without labels one that learns from everybody.
        hidden: hidden units of the shared body; 0 leaves the features alone.
        deviation: prior precision of a user's deviation from the shared head, summed over its weights, in units of the
            labels' variance; the larger, the more users are alike.
        rate: learning rate of AdamW.
        decay: its weight decay, on the body.
        batch: rows of a batch at most.
        epochs: passes over the labels at most.
        patience: passes without gain on held-out labels after which training stops.
        held_out: share of every user's labels (where users share texts: of the texts) that says when to stop; 0 trains
            for all ``epochs``.
        refit: whether all labels are then trained on for as long.
        abstain: whether users whose own heads err no less than the shared one on the held-out labels are served by it;
            off, since these kinds are there to compare losses.
    """

    shared: bool = True
    hidden: int = Field(default=32, ge=0, le=4096)
    deviation: float = Field(default=2.0, ge=0)
    rate: float = Field(default=3e-3, gt=0, le=1)
    decay: float = Field(default=0.01, ge=0)
    batch: int = Field(default=1024, ge=1)
    epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=5, ge=1)
    held_out: float = Field(default=0.2, ge=0, lt=1)
    refit: bool = True
    abstain: bool = False


@dataclass(frozen=True)
class TrainingOutcome:
    """Length of a training, and the users who abstain after it.

    Attributes:
        epochs: how many it took, warm-up included.
        abstained: shape (users,), true where the shared head predicts as well; None where nobody was judged.
    """

    epochs: int
    abstained: BoolArray | None


def fit_heads(
    labels: HeadLabels, training: TrainingOptions, seed: int, epochs: int | None = None
) -> tuple[UserHeads, TrainingOutcome]:
    """Train heads; see :func:`bestfor.rewards.heads.training.train` for the arguments.

    Returns:
        The heads, their epochs and the users who abstain.

    Raises:
        MissingExtraError: torch is not installed.
    """
    require("torch", "models")
    from bestfor.rewards.heads.training import train

    users = labels.users
    trained = train(labels if training.shared else with_pooled_user(labels), training, seed, epochs)
    weights = {name: value.astype(np.float64) for name, value in trained.weights.items()}
    heads = {}
    for name, own in (("shared", "own"), ("spread", "own_spread")):
        stranger = weights[name] if training.shared else weights[own][users]
        stacked = np.vstack([weights[name] + weights[own][:users], stranger])
        heads[name] = stacked.astype(np.float32).astype(np.float64)  # what is stored predicts the same bits
    spread = heads["spread"] if training.gaussian else np.zeros((users + 1, 0))
    body, shift = weights["body"], weights["body_shift"]
    natural = training.objective == "natural"
    found = UserHeads(body, shift, heads["shared"], spread, trained.noise, natural)
    return found, TrainingOutcome(trained.epochs, None if trained.held is None else _abstaining(users, *trained.held))


def _abstaining(users: int, user: IntArray, personal: FloatArray, shared: FloatArray) -> BoolArray:
    """Users who abstain by held-out errors, shape (users,); those without held-out labels do not."""
    found = np.zeros(users, dtype=np.bool_)
    if len(user):
        judged = abstaining(user, personal, shared)
        found[: len(judged)] = judged
    return found


def training_options(config: HeadsConfig, objective: Objective, **options: Any) -> TrainingOptions:  # noqa: ANN401
    """Take the settings of a training from a configuration."""
    names = ("shared", "deviation", "rate", "decay", "batch", "epochs", "patience", "held_out", "refit", "abstain")
    settings = {name: getattr(config, name) for name in names}
    return TrainingOptions(objective, hidden=config.hidden if config.shared else 0, **settings, **options)


class HeadModel(LinearLearner):
    """Everything but the loss: what ``point``, ``gaussian`` and ``bradley_terry`` share."""

    extras = ("models",)

    sliced = True
    posterior = False
    Config = HeadsConfig
    _base: BaseRows | None = None

    @property
    def has_std(self) -> bool:
        """True where rewards are means with a learned variance."""
        return self.scale == "utility" and self._training().gaussian

    @abstractmethod
    def _training(self) -> TrainingOptions:
        """Settings, the objective among them."""

    def _fit(self, candidates: Candidates, rng: int) -> None:
        centre, unit = float(np.mean(candidates.utility)), float(np.std(candidates.utility)) or 1.0
        labels = build_labels(self._design(candidates).rows(), candidates, centre, unit)
        training = self._training()
        learned = with_preferences(labels, candidates, centre, unit) if training.pairwise else labels
        self._heads, outcome = fit_heads(learned, training, rng)
        self._abstained = outcome.abstained
        self._base = BaseRows.build(labels.values, labels.target, labels.user, labels.query)
        self._state_values = {"centre": centre, "unit": unit, "noise": self._heads.noise, "epochs": outcome.epochs}

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        design, codes = self._design(candidates), self._user_codes(candidates)
        mean, variance = self._heads.predict((design.values, design.row), codes)
        notes = self._new_user_notes(candidates, codes, "the head that all users share")
        if self.scale == "arbitrary":
            return RewardEstimate(mean, notes=notes)
        unit = self._state_values["unit"]
        std = unit * np.sqrt(variance) if self._training().gaussian else None
        return RewardEstimate(self._state_values["centre"] + unit * mean, std, notes=notes)

    @property
    def _layer(self) -> LastLayer:
        scale = (self._state_values["centre"], self._state_values["unit"])
        return LastLayer(self._heads, self._training(), self._base, scale)

    def columns(self, features: npt.NDArray[np.floating], code: int) -> FloatArray:
        """Compute what a mean is linear in, shape (n, k)."""
        return self._layer.columns(features, code)

    def units(self) -> Units:
        """Give the scales."""
        return self._layer.units

    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of a label's noise, shape (n,)."""
        return self._layer.noise(columns, code)

    def belief(self, code: int) -> Belief:
        """Posterior of a user's head."""
        return self._layer.belief(code)

    def _rows(self, labels: Labels, texts: LabelTexts, code: int) -> tuple[RatedRows, PreferredRows]:
        return self._layer.rows(labels, texts, code)

    def _base_labels(self, code: int) -> BaseLabels | None:
        return self._layer.base_labels(code)

    def _base_notes(self, code: int) -> tuple[str, ...]:
        return (WITHOUT_BASE,) if self._base is None and code >= 0 else ()

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        base = {} if self._base is None else self._base.arrays()
        return dict(self._state_values), {**self._heads.arrays(), **base}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._state_values = {name: float(state[name]) for name in ("centre", "unit", "noise")}
        self._state_values["epochs"] = int(state["epochs"])
        natural = self._training().objective == "natural"
        self._heads = restore_heads(arrays, len(self._users), float(state["noise"]), natural)
        self._base = restore_base_rows(arrays, len(self._users), len(self._heads.body))
