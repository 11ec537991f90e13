"""Persons of kinds whose reward is linear in known columns: a normal posterior of the user's weights.

    y = centre + unit (z'w + c_q + z'e_q + e),   w ~ N(m, C) after the fit,   R(x) = centre + unit z'w

A kind says what its columns, its units and its posterior at the fit are; :mod:`bestfor.rewards.posterior` updates it by
all that the user said since. Who abstains is judged again by all labels, those of the fit and those since: their own
part counts as soon as the labels' leave-one-out log density is higher under it than where nothing but the user's level
is their own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.data.others import OtherRatings
from bestfor.errors import BestforError
from bestfor.rewards.model import RewardModel
from bestfor.rewards.person import ModelPerson, Person, TextHistory, one_users, split_estimate
from bestfor.rewards.posterior import (
    Belief,
    ComparedTexts,
    PreferredRows,
    RatedRows,
    learn,
    left_out_log_densities,
)
from bestfor.rewards.rows import rounded, starts_of
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores, Served

ABSTAINS = "all labels of this user say no more than everybody's"
"""Note of a person who abstains in spite of labels."""


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
    """Labels of the fit as evidence about a user who abstains.

    Attributes:
        rated: these labels, where they are ratings.
        preferred: these labels, where they are preferences.
        own: the weights of somebody without labels.
        shared: the same where nothing but their level is a user's own.
    """

    rated: RatedRows
    preferred: PreferredRows
    own: Belief
    shared: Belief


@dataclass(frozen=True)
class LabelTexts:
    """Distinct texts of some labels.

    Attributes:
        features: shape (texts, features).
        query: shape (texts,), which prompt each is for.
        place: shape (ratings + 2 preferences,), the text of each rating, then the better and the worse one of each
            preference.
    """

    features: npt.NDArray[np.floating]
    query: IntArray
    place: IntArray


class LinearLearner(RewardModel):
    """A kind that is linear in columns and learns from further labels."""

    learns = True

    posterior: ClassVar[bool] = True
    """Whether ``std`` holds the standard deviation of the mean; if not, it is the label's noise alone."""

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

    def columns(self, features: npt.NDArray[np.floating], code: int) -> FloatArray:
        """Columns of features for a fitted user (-1 for somebody else), shape (n, p); the last is the intercept."""
        del code
        found = np.empty((len(features), features.shape[1] + 1))
        found[:, :-1], found[:, -1] = features, 1.0
        return found

    @abstractmethod
    def belief(self, code: int) -> Belief:
        """Posterior of a fitted user's weights, abstaining ones' too; -1 for somebody without fit labels."""

    def _known_belief(self, code: int) -> Belief:
        """Posterior of a fitted user's weights, kept of recent users."""
        found: Belief = self._recent.get(code, lambda: self.belief(code))
        return found

    @abstractmethod
    def units(self) -> Units:
        """Give the scales."""

    @abstractmethod
    def noise(self, columns: FloatArray, code: int) -> FloatArray:
        """Variance of an ordinary label's noise, shape (n,), on the standard scale."""

    def _base_labels(self, code: int) -> BaseLabels | None:
        """Labels of the fit as evidence about somebody who abstains; None where they are not kept."""
        del code

    def _base_notes(self, code: int) -> tuple[str, ...]:
        """Say what is not known of a user's labels of the fit."""
        del code
        return ()

    def _rows(self, labels: Labels, texts: LabelTexts, code: int) -> tuple[RatedRows, PreferredRows]:
        """Turn sorted labels into rows on the standard scale."""
        columns = self.columns(texts.features, code)
        return label_rows(labels, texts, columns, self.noise(columns, code), self.units())

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        code = int(self._known_codes((user,), abstaining=True)[0])
        rated, preferred = self._rows(labels, label_texts(self.features, user, labels, history), code)
        base = self._base_labels(code) if self.served(user) == "abstained" else None
        with for_size(rated.x.shape[1]):
            if self.served(user) == "abstained" and not (base and supports_own(base, rated, preferred)):
                return ModelPerson(user, "abstained", len(labels), (ABSTAINS,), self, history)
            belief = learn(self._known_belief(code), rated, preferred)
            root = pack_root(belief.covariance)
        return LinearPerson(user, "own", len(labels), self._base_notes(code), self, history, code, belief.mean, root)

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        units, features, codes = self.units(), self.features(candidates), self._user_codes(candidates)
        starts = starts_of(candidates.query)
        scale, found = units.temperature * units.unit**2, []
        with for_size(len(features)):
            beliefs = {code: self._known_belief(code).covariance for code in dict.fromkeys(codes[starts].tolist())}
        for start, end in pairwise([*starts.tolist(), len(codes)]):
            code = int(codes[start])
            part = self.columns(features[start:end], code)
            found.append(scale * (part @ beliefs[code] @ part.T))
        return found


def label_texts(
    features: Callable[[Candidates], npt.NDArray[np.floating]], user: str, labels: Labels, history: TextHistory
) -> LabelTexts:
    """Give the distinct texts of sorted labels their features."""
    said = [(one.prompt, text) for one in (*labels.rated, *labels.preferred) for text in _texts(one)]
    order = {key: place for place, key in enumerate(sorted(set(said)))}
    texts: dict[str, list[str]] = {}
    for prompt, text in order:
        texts.setdefault(prompt, []).append(text)
    candidates = one_users(user, list(texts), list(texts.values()), history)
    return LabelTexts(features(candidates), candidates.query, np.array([order[key] for key in said], dtype=np.int64))


def label_rows(
    labels: Labels, texts: LabelTexts, columns: FloatArray, noise: FloatArray, units: Units
) -> tuple[RatedRows, PreferredRows]:
    """Turn sorted labels into rows on the standard scale.

    Args:
        labels: ratings in the utility's units, and preferences.
        texts: their distinct texts.
        columns: shape (texts, p).
        noise: shape (texts,), variance of an ordinary rating's noise.
        units: the scales.
    """
    n, place = len(labels.rated), texts.place
    weight = np.array([one.weight for one in (*labels.rated, *labels.preferred)])
    target = (np.array([one.utility for one in labels.rated]) - units.centre) / units.unit
    own, better, worse = place[:n], place[n::2], place[n + 1 :: 2]
    rated = RatedRows(columns[own], target, noise[own] / weight[:n], texts.query[own], units.level, units.slope)
    compared = ComparedTexts(columns, better, worse)
    difference, width = compared.difference(columns), noise[better] + noise[worse]
    if units.slope:
        width = width + units.slope * np.sum(difference[:, :-1] ** 2, axis=1)
    return rated, PreferredRows(difference, width / weight[n:], compared)


def supports_own(base: BaseLabels, rated: RatedRows, preferred: PreferredRows) -> bool:
    """Say whether all labels are told better by the user's own part than by what all share."""
    both = (base.preferred, preferred)
    rows = PreferredRows(np.vstack([one.x for one in both]), np.concatenate([one.noise for one in both]))
    own, shared = (left_out_log_densities(one, (base.rated, rated), rows) for one in (base.own, base.shared))
    return float(np.sum(own - shared)) > 0


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

    def heard(self, scores: Scores, candidates: Candidates, others: OtherRatings) -> Scores:
        """Condition the scores of one request on what others said, where the kind hears it."""
        return self.model.heard_scores([scores], candidates, others, np.ones(1))[0]

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        wrote = self.history if history is None else history
        candidates = one_users(self.user, prompts, texts, wrote)
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        return self._scores(self.model.features(candidates), ends)

    def score_features(self, features: npt.NDArray[np.floating]) -> Scores:
        """Rewards of candidates whose features are at hand, as :meth:`score` gives them.

        Args:
            features: shape (n, features), rows of the model's ``features``.
        """
        return self._scores(features, np.array([0, len(features)]))[0]

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

    def _scores(self, features: npt.NDArray[np.floating], ends: IntArray) -> list[Scores]:
        units, columns = self.model.units(), self.model.columns(features, self.code)
        scale = units.temperature * units.unit**2
        mean = rounded(units.centre + units.unit * (columns @ self.weights))
        served: list[Served] = [self.served] * (len(ends) - 1)
        reach = columns @ unpack_root(self.root, len(self.weights))
        own = scale * np.sum(reach**2, axis=1)
        covers = [scale * (reach[a:b] @ reach[a:b].T) for a, b in pairwise(ends.tolist())]
        std = None
        if self.model.has_std:
            rest = scale * self.model.noise(columns, self.code)
            if self.model.posterior:
                rest = own + rest + scale * units.level
                if units.slope:
                    rest = rest + scale * units.slope * np.sum(columns[:, :-1] ** 2, axis=1)
            std = rounded(np.sqrt(rest))
        return split_estimate(RewardEstimate(mean, std, rounded(np.sqrt(own))), ends, served, covers)


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
