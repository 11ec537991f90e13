"""Make a person of tastes: the fit's ratings and all labels since, solved together for the one user.

    f(t) = h_0(t) + a_u'h(t) + g_u(t),   f at the user's items ~ N(h_0, HH' + w K)

What texts are (h) stays as fitted, and texts may be new. Ratings and preferences are rows over f at the items
(:mod:`bestfor.rewards.posterior`); with V the covariance of these rows X f and z = V^-1 (y - X h_0) everything is as in
:mod:`bestfor.rewards.tastes.person`, X'z and X'V^-1 X taking the places of z and V^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy import linalg

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.data.others import OtherRatings
from bestfor.rewards.features.nearness import ItemVectors, Nearness
from bestfor.rewards.person import ModelPerson, Person, RequestScorer, TextHistory, one_users, split_estimate
from bestfor.rewards.posterior import Belief, PreferredRows, RatedRows, as_ratings, condition, left_out_log_densities
from bestfor.rewards.rows import rounded
from bestfor.rewards.tastes.items import RatedItems, items_once, list_items
from bestfor.rewards.tastes.person import OwnPart, PersonVariances
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores, Served


class TextTastes(RequestScorer, Protocol):
    """A fitted model of tastes, as far as persons ask it."""

    @property
    def nearness(self) -> Nearness:
        """Kernel between items."""
        ...

    def served(self, user: str) -> Served:
        """Say what serves a user."""
        ...

    def units(self) -> tuple[float, float]:
        """Mean and standard deviation of the fit's utilities."""
        ...

    def variances(self) -> PersonVariances:
        """Variances of noise, level and own part."""
        ...

    def items(self, items: RatedItems) -> tuple[FloatArray, FloatArray, ItemVectors]:
        """Mean and variance of h at each item, and its vectors."""
        ...


@dataclass(frozen=True)
class BaseRatings:
    """One user's ratings of the fit.

    Attributes:
        mean: shape (m, k + 1), h at the rated items.
        vectors: of these items.
        near: shape (m, m), kernel between them.
        y: shape (m,), on the standard scale.
        query: shape (m,), codes.
    """

    mean: FloatArray
    vectors: ItemVectors
    near: FloatArray
    y: FloatArray
    query: IntArray


@dataclass(frozen=True)
class TastesPerson(Person):
    """A person with tastes of their own.

    Attributes:
        model: what texts are.
        history: what the user wrote before; not looked at.
        part: the user's part.
        vectors: of the items that it rests on.
    """

    model: TextTastes
    history: TextHistory
    part: OwnPart
    vectors: ItemVectors

    @property
    def loading(self) -> FloatArray:
        """Loadings of the user on what a text has beyond its vector, shape (k + 1,)."""
        return np.concatenate([[1.0], self.part.taste])

    def heard(self, scores: Scores, candidates: Candidates, others: OtherRatings) -> Scores:
        """Condition the scores of one request on what others said."""
        return self.model.heard_scores([scores], candidates, others, self.loading)[0]

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        candidates = one_users(self.user, prompts, texts, None)
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        items, variances = items_once(candidates), self.model.variances()
        mean, variance, vectors = self.model.items(items)
        near = self.model.nearness.between(vectors, self.vectors)
        between = self.model.nearness.between(vectors, vectors)
        centre, unit = self.model.units()
        covers, rewards = [], np.zeros(len(items.row))
        for start, end in pairwise(ends.tolist()):
            item = items.row[start:end]
            h, within = mean[item], between[np.ix_(item, item)]
            part, _ = self.part.predict(h[:, 1:], near[item], variances.own)
            rewards[start:end] = centre + unit * (h[:, 0] + part)
            cover = self.part.covariance(h[:, 1:], near[item], within, variances.own)
            covers.append(unit**2 * (cover + shared_doubt(self.part, variance[item], item)))
        own = np.concatenate([np.maximum(np.diag(cover), 0.0) for cover in covers])
        whole = own + unit**2 * (variances.noise - variances.own + variances.level)
        estimate = RewardEstimate(rounded(rewards), rounded(np.sqrt(whole)), rounded(np.sqrt(own)))
        served: list[Served] = [self.served] * len(prompts)
        return split_estimate(estimate, ends, served, covers)


def shared_doubt(part: OwnPart, variance: FloatArray, item: IntArray) -> FloatArray:
    """Covariance of n rewards by what is not known of h at their items, shape (n, n).

    Args:
        part: the user's.
        variance: shape (n, k + 1), of h.
        item: shape (n,), codes; rows of one item share its doubt.
    """
    each = variance[:, 0] + np.sum(variance[:, 1:] * (part.taste**2 + part.spread), axis=1)
    return np.where(item[:, None] == item, each, 0.0)


def make_person(model: TextTastes, user: str, labels: Labels, history: TextHistory, base: BaseRatings) -> Person:
    """Make the person of sorted labels, at least one.

    Args:
        model: what texts are.
        user: whose labels they are.
        labels: all since the fit.
        history: what the user wrote before.
        base: the user's ratings of the fit.
    """
    variances, (centre, unit) = model.variances(), model.units()
    prompts = sorted({one.prompt for one in (*labels.rated, *labels.preferred)})
    texts = {prompt: set[str]() for prompt in prompts}
    for one in labels.rated:
        texts[one.prompt].add(one.text)
    for two in labels.preferred:
        texts[two.prompt] |= {two.better, two.worse}
    listed = [sorted(texts[prompt]) for prompt in prompts]
    items = list_items(one_users(user, prompts, listed, None))
    named = [(prompt, text) for prompt, each in zip(prompts, listed, strict=True) for text in each]
    place = {key: len(base.y) + int(row) for key, row in zip(named, items.row, strict=True)}
    mean, _, vectors = model.items(items)
    cross = model.nearness.between(vectors, base.vectors)
    near = np.block([[base.near, cross.T], [cross, model.nearness.between(vectors, vectors)]])
    mean, vectors = np.vstack([base.mean, mean]), base.vectors.join(vectors)
    belief = Belief(mean[:, 0], mean[:, 1:] @ mean[:, 1:].T + variances.own * near)
    utility = np.array([one.utility for one in labels.rated])
    rated = _ratings(labels, prompts, place, base, (utility - centre) / unit, variances)
    preferred = _preferences(labels, place, len(mean), variances)
    if model.served(user) == "abstained":
        shared = Belief(belief.mean, np.zeros_like(belief.covariance))
        own, other = (left_out_log_densities(one, [rated], preferred) for one in (belief, shared))
        if float(np.sum(own - other)) <= 0:
            notes = ("all labels of this user say no more than everybody's",)
            return ModelPerson(user, "abstained", len(labels), notes, model, history)
    part = _own_part(belief, rated, preferred, mean[:, 1:], variances)
    return TastesPerson(user, "own", len(labels), (), model, history, part, vectors)


def _ratings(
    labels: Labels,
    prompts: Sequence[str],
    place: dict[tuple[str, str], int],
    base: BaseRatings,
    target: FloatArray,
    variances: PersonVariances,
) -> RatedRows:
    """Ratings of the fit, then those since, as rows over the items."""
    known, code = len(base.y), {prompt: number for number, prompt in enumerate(prompts)}
    item = np.array([place[one.prompt, one.text] for one in labels.rated], dtype=np.int64)
    rows = np.zeros((known + len(item), max(place.values()) + 1))
    rows[np.arange(len(rows)), np.concatenate([np.arange(known), item])] = 1.0
    weight = np.array([1.0] * known + [one.weight for one in labels.rated])
    last = int(base.query.max(initial=-1)) + 1
    query = np.array([last + code[one.prompt] for one in labels.rated], dtype=np.int64)
    noise = (variances.noise - variances.own) / weight
    query, y = np.concatenate([base.query, query]), np.concatenate([base.y, target])
    return RatedRows(rows, y, noise, query, variances.level)


def _preferences(
    labels: Labels, place: dict[tuple[str, str], int], items: int, variances: PersonVariances
) -> PreferredRows:
    rows = np.zeros((len(labels.preferred), items))
    for row, one in zip(rows, labels.preferred, strict=True):
        row[place[one.prompt, one.better]] += 1.0
        row[place[one.prompt, one.worse]] -= 1.0
    weight = np.array([one.weight for one in labels.preferred])
    return PreferredRows(rows, 2 * (variances.noise - variances.own) / weight)


def _own_part(
    belief: Belief, rated: RatedRows, preferred: PreferredRows, seen: FloatArray, variances: PersonVariances
) -> OwnPart:
    """Solve for the user's part."""
    rows, y, cover = rated.x, rated.y, rated.cover()
    if len(preferred.noise):
        sites = as_ratings(condition(belief, rated), preferred)
        rows, y = np.vstack([rows, sites.x]), np.concatenate([y, sites.y])
        cover = linalg.block_diag(cover, np.diag(sites.noise))
    inverse = np.linalg.inv(rows @ belief.covariance @ rows.T + cover)
    pulled = rows.T @ (inverse @ (y - rows @ belief.mean))
    reached = rows.T @ inverse @ rows
    spread = 1.0 - np.sum((reached @ seen) * seen, axis=0)
    item = np.arange(len(seen))
    return OwnPart(seen.T @ pulled, spread, item, seen, variances.own * pulled, reached, np.zeros(0))
