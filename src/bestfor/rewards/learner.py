"""Persons of kinds whose reward is linear in known columns: a normal posterior of the user's weights.

    y = centre + unit (z'w + c_q + z'e_q + e),   w ~ N(m, C) after the fit,   R(x) = centre + unit z'w

A kind says what its columns, its units and its posterior at the fit are; :mod:`bestfor.rewards.posterior` updates it by
all that the user said since. Who abstains is judged again by all labels, those of the fit and those since: their own
part counts as soon as the labels' leave-one-out log density is higher under it than where nothing but the user's level
is their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.errors import BestforError
from bestfor.rewards.model import RewardModel
from bestfor.rewards.person import ModelPerson, Person, TextHistory, one_users, split_estimate
from bestfor.rewards.posterior import Belief, PreferredRows, RatedRows, learn, left_out_log_densities
from bestfor.rewards.rows import rounded
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores, Served


@dataclass(frozen=True)
class Units:
    """Scales of a linear kind.

    Attributes:
        centre: utility of 0 on the standard scale.
        unit: utility of 1 there.
        level: variance of a prompt's level, on the standard scale.
        slope: variance of each of a prompt's own weights.
        temperature: factor on all predicted variances.
    """

    centre: float
    unit: float
    level: float = 0.0
    slope: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class BaseLabels:
    """What the labels of the fit say about a user who abstains.

    Attributes:
        rows: these labels.
        own: the weights of somebody without labels.
        shared: the same where nothing but their level is a user's own.
    """

    rows: RatedRows
    own: Belief
    shared: Belief


class LinearLearner(RewardModel):
    """A kind that is linear in columns and learns from further labels."""

    learns = True

    posterior: ClassVar[bool] = True
    """Whether its standard deviations hold that of the mean, so that scores have a covariance."""

    def features(self, candidates: Candidates) -> FloatArray:
        """Features of every row, shape (n, features)."""
        return self._design(candidates).rows()

    def features_of(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[Any]:
        """Features of texts whose embeddings are at hand, (n, dim) and (n, surface) -> (n, features)."""
        if self._space is None:
            raise BestforError(f"'{self.kind}' has no features before fit")
        return self._space.of_embeddings(embeddings, surface)

    def _columns(self, features: npt.NDArray[np.floating]) -> FloatArray:
        """Columns of features, shape (n, p); the last is the intercept."""
        found = np.empty((len(features), features.shape[1] + 1))
        found[:, :-1], found[:, -1] = features, 1.0
        return found

    @abstractmethod
    def _belief(self, code: int) -> Belief:
        """Posterior of a fitted user's weights, abstaining ones' too; -1 for somebody without fit labels."""

    @abstractmethod
    def _units(self) -> Units:
        """The scales."""

    @abstractmethod
    def _noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of an ordinary label's noise, shape (n,), on the standard scale."""

    def _base_labels(self, code: int) -> BaseLabels | None:
        """What the fit's labels say of somebody who abstains; None where they are not kept."""
        del code

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        code = int(self._known_codes((user,), abstaining=True)[0])
        rated, preferred = self._said(user, labels, history, code)
        abstains = self.served(user) == "abstained"
        with for_size(rated.x.shape[1]):
            if abstains and not self._supports_own(code, rated, preferred):
                notes = ("all labels of this user say no more than everybody's",)
                return ModelPerson(user, "abstained", len(labels), notes, self, history)
            belief = learn(self._belief(code), rated, preferred)
            root = pack_root(belief.covariance)
        return LinearPerson(user, "own", len(labels), (), self, history, code, belief.mean, root)

    def _said(self, user: str, labels: Labels, history: TextHistory, code: int) -> tuple[RatedRows, PreferredRows]:
        """Turn sorted labels into rows on the standard scale."""
        units = self._units()
        columns, query, place = self._label_columns(user, labels, history)
        noise, n = self._noise(columns, code), len(labels.rated)
        weight = np.array([one.weight for one in (*labels.rated, *labels.preferred)])
        utility = np.array([one.utility for one in labels.rated])
        own = place[:n]
        rated = RatedRows(
            columns[own],
            (utility - units.centre) / units.unit,
            noise[own] / weight[:n],
            query[own],
            units.level,
            units.slope,
        )
        better, worse = place[n::2], place[n + 1 :: 2]
        difference = columns[better] - columns[worse]
        width = noise[better] + noise[worse]
        if units.slope:
            width = width + units.slope * np.sum(difference[:, :-1] ** 2, axis=1)
        return rated, PreferredRows(difference, width / weight[n:])

    def _label_columns(self, user: str, labels: Labels, history: TextHistory) -> tuple[FloatArray, IntArray, IntArray]:
        """Columns of the labels' distinct texts.

        Returns:
            Columns, shape (texts, p); the prompt of each, shape (texts,); and which of them is each rating's text, then
            each preference's better and worse text, shape (ratings + 2 preferences,).
        """
        said = [(one.prompt, text) for one in (*labels.rated, *labels.preferred) for text in _texts(one)]
        order = {key: place for place, key in enumerate(sorted(set(said)))}
        prompts = list(dict.fromkeys(prompt for prompt, _ in order))
        texts: dict[str, list[str]] = {prompt: [] for prompt in prompts}
        for prompt, text in order:
            texts[prompt].append(text)
        candidates = one_users(user, prompts, list(texts.values()), history)
        return (
            self._columns(self.features(candidates)),
            candidates.query,
            np.array([order[key] for key in said], dtype=np.int64),
        )

    def _supports_own(self, code: int, rated: RatedRows, preferred: PreferredRows) -> bool:
        """Say whether all labels are told better by the user's own part than by what all share."""
        base = self._base_labels(code)
        if base is None:
            return False
        rows = (base.rows, rated)
        own, shared = (left_out_log_densities(belief, rows, preferred) for belief in (base.own, base.shared))
        return float(np.sum(own - shared)) > 0

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        if not self.posterior:
            return None
        units, columns, codes = self._units(), self._columns(self.features(candidates)), self._user_codes(candidates)
        _, starts = np.unique(candidates.query, return_index=True)
        scale, found = units.temperature * units.unit**2, []
        beliefs = {code: self._belief(code).covariance for code in np.unique(codes).tolist()}
        for start, end in pairwise([*starts.tolist(), len(codes)]):
            part = columns[start:end]
            found.append(scale * (part @ beliefs[int(codes[start])] @ part.T))
        return found


@dataclass(frozen=True)
class LinearPerson(Person):
    """A person with weights of their own.

    Attributes:
        model: its features and noise.
        history: what the user wrote before.
        code: the user's place among the fitted, -1 for somebody else.
        weights: shape (p,), posterior mean on the standard scale.
        root: shape (p (p + 1) / 2,), lower triangle of a root of the posterior covariance, in single precision: 20,000
            persons of 52 columns take 130 MB.
    """

    model: LinearLearner
    history: TextHistory
    code: int
    weights: FloatArray
    root: npt.NDArray[np.float32]

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        wrote = self.history if history is None else history
        candidates = one_users(self.user, prompts, texts, wrote)
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        return self._scores(self.model._columns(self.model.features(candidates)), ends)

    def score_features(self, features: npt.NDArray[np.floating]) -> Scores:
        """Rewards of candidates whose features are at hand, as :meth:`score` gives them.

        Args:
            features: shape (n, features), rows of the model's ``features``.
        """
        return self._scores(self.model._columns(features), np.array([0, len(features)]))[0]

    def score_embeddings(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> Scores:
        """Rewards of candidates whose embeddings are at hand; the same up to single precision.

        Args:
            embeddings: shape (n, dim), from the model's encoder.
            surface: shape (n, surface), the features beside the components; may be left out where there are none.

        Raises:
            BestforError: the model has surface features and none are given.
        """
        return self.score_features(self.model.features_of(embeddings, surface))

    def _scores(self, columns: FloatArray, ends: IntArray) -> list[Scores]:
        units = self.model._units()
        scale = units.temperature * units.unit**2
        mean = rounded(units.centre + units.unit * (columns @ self.weights))
        served: list[Served] = [self.served] * (len(ends) - 1)
        if not self.model.has_std:
            return split_estimate(RewardEstimate(mean), ends, served, None)
        noise = self.model._noise(columns, self.code)
        if not self.model.posterior:
            return split_estimate(RewardEstimate(mean, rounded(np.sqrt(scale * noise))), ends, served, None)
        rest = noise + units.level
        if units.slope:
            rest = rest + units.slope * np.sum(columns[:, :-1] ** 2, axis=1)
        reach = columns @ unpack_root(self.root, len(self.weights))
        own = scale * np.sum(reach**2, axis=1)
        covers = [scale * (reach[a:b] @ reach[a:b].T) for a, b in pairwise(ends.tolist())]
        estimate = RewardEstimate(mean, rounded(np.sqrt(own + scale * rest)), rounded(np.sqrt(own)))
        return split_estimate(estimate, ends, served, covers)


def pack_root(covariance: FloatArray) -> npt.NDArray[np.float32]:
    """Lower triangle of a Cholesky root, in single precision; (p, p) -> (p (p + 1) / 2,)."""
    p = len(covariance)
    jitter = 1e-14 * float(np.trace(covariance))
    for _ in range(12):
        try:
            lower = np.linalg.cholesky(covariance + jitter * np.eye(p))
        except np.linalg.LinAlgError:
            jitter *= 10
            continue
        return lower[_triangle(p)].astype(np.float32)
    raise BestforError("a posterior covariance has no root: labels of absurd weights")


def unpack_root(packed: npt.NDArray[np.float32], p: int) -> FloatArray:
    """Fill the lower triangle again, (p (p + 1) / 2,) -> (p, p)."""
    found = np.zeros((p, p))
    found[_triangle(p)] = packed
    return found


_TRIANGLES: dict[int, Any] = {}


def _triangle(p: int) -> Any:  # noqa: ANN401 - an index of a lower triangle
    if p not in _TRIANGLES:
        _TRIANGLES[p] = np.tri(p, dtype=np.bool_)
    return _TRIANGLES[p]


def _texts(label: Rated | Preferred) -> tuple[str, ...]:
    return (label.text,) if isinstance(label, Rated) else (label.better, label.worse)
