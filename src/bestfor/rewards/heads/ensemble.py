"""Ensemble: several heads models whose disagreement says what is not known.

    m = mean_k m_k,   std^2 = mean_k s_k^2 + var_k m_k,   std_mean^2 = var_k m_k,   R = m - penalty var_k m_k

A deep ensemble (Lakshminarayanan et al. 2017) trains the same model from several seeds; with ``bootstrap`` each member
sees its own draw of every user's labels with replacement (Efron 1979), without which members with few hidden units
would hardly differ. ``penalty`` is the uncertainty-weighted optimisation of Coste et al. 2024; 0 selects by the mean.
Members are ``gaussian`` or ``point`` models (:mod:`bestfor.rewards.heads.model`) on the same features; the first one,
on all labels, finds when to stop and, where asked, who abstains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field

from bestfor import rng as randomness
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.rewards.base_rows import WITHOUT_BASE, BaseRows, restore_base_rows
from bestfor.rewards.heads.labels import HeadLabels, build_labels
from bestfor.rewards.heads.last_layer import LastLayer
from bestfor.rewards.heads.model import HeadsConfig, fit_heads, training_options
from bestfor.rewards.heads.settings import TrainingOptions
from bestfor.rewards.heads.user_heads import UserHeads, restore_heads
from bestfor.rewards.learner import ABSTAINS, label_texts, supports_own
from bestfor.rewards.model import RewardModel
from bestfor.rewards.person import ModelPerson, Person, TextHistory, one_users, split_estimate
from bestfor.rewards.posterior import learn
from bestfor.rewards.rows import rounded
from bestfor.threads import for_size
from bestfor.types import FloatArray, RewardEstimate, Scores, Served


class Config(HeadsConfig):
    """Features, body, training, and the members.

    Attributes:
        members: how many.
        bootstrap: whether each sees its own draw of the labels.
        penalty: lambda, how much the variance between members costs, per unit of the utility.
        loss: what members are trained with, as in ``gaussian``; squared for ``point`` members.
        beta: exponent of beta-NLL.
        warm_up: first epochs, of squared error.
        spread: how much more users' log-variance heads are pulled to the shared one than their mean heads.
    """

    members: int = Field(default=5, ge=2, le=100)
    bootstrap: bool = True
    penalty: float = Field(default=0.0, ge=0)
    loss: Literal["squared", "nll", "beta_nll", "natural"] = "beta_nll"
    beta: float = Field(default=0.5, ge=0, le=1)
    warm_up: int = Field(default=5, ge=0)
    spread: float = Field(default=3.0, ge=0)


def resampled(labels: HeadLabels, draw: np.random.Generator) -> HeadLabels:
    """Weigh labels by how often each came up in a draw of every user's with replacement."""
    counts = np.bincount(labels.user, minlength=labels.users)
    order = np.argsort(labels.user, kind="stable")
    first = np.cumsum(counts) - counts
    size = counts[labels.user]
    chosen = order[first[labels.user] + np.floor(draw.random(len(size)) * size).astype(np.int64)]
    return replace(labels, weight=np.bincount(chosen, minlength=len(size)).astype(np.float64))


def combine(
    means: FloatArray, variances: FloatArray, scale: tuple[float, float], penalty: float = 0.0
) -> RewardEstimate:
    """Combine members into their mixture: total variance is the mean variance plus the variance of the means.

    Args:
        means: shape (members, n), on the standard scale.
        variances: shape (members, n).
        scale: centre and unit of the utility.
        penalty: lambda.
    """
    centre, unit = scale
    between = unit**2 * np.var(means, axis=0)
    mean = centre + unit * np.mean(means, axis=0) - penalty * between
    std = np.sqrt(unit**2 * np.mean(variances, axis=0) + between)
    return RewardEstimate(mean, std, np.sqrt(between))


class Ensemble(RewardModel):
    """Mean and disagreement of several models."""

    extras = ("models",)

    kind = "ensemble"
    has_std = True
    Config = Config
    sliced = True
    learns = True
    _base: BaseRows | None = None

    def _training(self) -> TrainingOptions:
        config = self.config
        beta = config.beta if config.loss == "beta_nll" else 0.0
        return training_options(config, config.loss, beta=beta, warm_up=config.warm_up, spread=config.spread)

    def _fit(self, candidates: Candidates, rng: int) -> None:
        self._centre, self._unit = float(np.mean(candidates.utility)), float(np.std(candidates.utility)) or 1.0
        labels = build_labels(self._design(candidates).rows(), candidates, self._centre, self._unit)
        self._base = BaseRows.build(labels.values, labels.target, labels.user, labels.query)
        seeds = [randomness.key(rng, "member", member) for member in range(self.config.members)]
        first, outcome = fit_heads(labels, self._training(), seeds[0])
        self._epochs, self._abstained = outcome.epochs, outcome.abstained
        fitted = [] if self.config.bootstrap else [first]
        for seed in seeds[len(fitted) :]:
            drawn = resampled(labels, randomness.derive(seed, "bootstrap")) if self.config.bootstrap else labels
            member, _ = fit_heads(drawn, self._training(), seed, self._epochs)
            fitted.append(replace(member, noise=first.noise))
        self._heads = fitted

    def layers(self) -> list[LastLayer]:
        """Last layers of the members."""
        return [LastLayer(one, self._training(), self._base, (self._centre, self._unit)) for one in self._heads]

    def features(self, candidates: Candidates) -> FloatArray:
        """Features of every row, shape (n, features)."""
        return self._design(candidates).rows()

    def mixture(self, means: FloatArray, variances: FloatArray) -> RewardEstimate:
        """Combine members on the utility's scale; (members, n) each."""
        return combine(means, variances, (self._centre, self._unit), self.config.penalty)

    def disagreement(self, means: FloatArray) -> FloatArray:
        """Covariance of the members' means of n candidates, (members, n) -> (n, n)."""
        away = means - means.mean(axis=0)
        return self._unit**2 * (away.T @ away) / len(away)

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        design, codes = self._design(candidates), self._user_codes(candidates)
        means = np.array([heads.predict((design.values, design.row), codes)[0] for heads in self._heads])
        _, starts = np.unique(candidates.query, return_index=True)
        return [self.disagreement(part) for part in np.split(means, starts[1:], axis=1)]

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        code = int(self._known_codes((user,), abstaining=True)[0])
        texts, layers = label_texts(self.features, user, labels, history), self.layers()
        with for_size(self._heads[0].mean.shape[1]):
            if self.served(user) == "abstained":
                base = layers[0].base_labels(code)
                if not (base and supports_own(base, *layers[0].rows(labels, texts, code))):
                    return ModelPerson(user, "abstained", len(labels), (ABSTAINS,), self, history)
            beliefs = [
                self._recent.get((place, code), lambda one=one: one.belief(code)) for place, one in enumerate(layers)
            ]
            weights = [
                learn(belief, *one.rows(labels, texts, code)).mean for one, belief in zip(layers, beliefs, strict=True)
            ]
        notes = (WITHOUT_BASE,) if self._base is None and code >= 0 else ()
        return EnsemblePerson(user, "own", len(labels), notes, self, history, code, np.array(weights))

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        design, codes = self._design(candidates), self._user_codes(candidates)
        found = [heads.predict((design.values, design.row), codes) for heads in self._heads]
        means, variances = (np.array(values) for values in zip(*found, strict=True))
        notes = self._new_user_notes(candidates, codes, "the head that all users share")
        return replace(combine(means, variances, (self._centre, self._unit), self.config.penalty), notes=notes)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state = {"centre": self._centre, "unit": self._unit, "epochs": self._epochs, "noise": self._heads[0].noise}
        arrays: Arrays = {}
        for name in self._heads[0].arrays():
            stacked = np.stack([heads.arrays()[name] for heads in self._heads])
            arrays[name] = np.swapaxes(stacked, 0, 1) if name.startswith("user.") else stacked
        return state, arrays if self._base is None else {**arrays, **self._base.arrays()}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._centre, self._unit, self._epochs = float(state["centre"]), float(state["unit"]), int(state["epochs"])
        natural, users = self.config.loss == "natural", len(self._users)
        names = [f"{owner}.{head}" for owner in ("user", "stranger") for head in ("mean", "spread")]
        self._heads: list[UserHeads] = []
        for member in range(self.config.members):
            one = {
                name: arrays[name][:, member] if name.startswith("user.") else arrays[name][member] for name in names
            }
            one |= {name: arrays[name][member] for name in ("body", "body_shift")}
            self._heads.append(restore_heads(one, users, float(state["noise"]), natural))
        self._base = restore_base_rows(arrays, users, len(self._heads[0].body))


@dataclass(frozen=True)
class EnsemblePerson(Person):
    """A person with a head of their own in every member.

    Attributes:
        model: its members and features.
        history: what the user wrote before.
        code: the user's place among the fitted, -1 for somebody else.
        weights: shape (members, k), posterior means of the heads.
    """

    model: Ensemble
    history: TextHistory
    code: int
    weights: FloatArray

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        candidates = one_users(self.user, prompts, texts, self.history if history is None else history)
        features, layers = self.model.features(candidates), self.model.layers()
        columns = [one.columns(features, self.code) for one in layers]
        means = np.array([part @ weights for part, weights in zip(columns, self.weights, strict=True)])
        noise = np.array([one.noise(part, self.code) for one, part in zip(layers, columns, strict=True)])
        found = self.model.mixture(means, noise)
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        covers = [self.model.disagreement(means[:, start:end]) for start, end in pairwise(ends.tolist())]
        std, std_mean = (None if part is None else rounded(part) for part in (found.std, found.std_mean))
        served: list[Served] = [self.served] * len(prompts)
        return split_estimate(RewardEstimate(rounded(found.mean), std, std_mean), ends, served, covers)
