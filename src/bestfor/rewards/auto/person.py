"""Persons of an automatic model: the members' persons, combined by the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.others import OtherRatings
from bestfor.rewards.auto.combination import Combination
from bestfor.rewards.auto.members import MemberParts, variances
from bestfor.rewards.memory import same_rows
from bestfor.rewards.person import Person, TextHistory, one_users, split_estimate
from bestfor.rewards.rows import rounded
from bestfor.rewards.tastes.learner import TastesPerson
from bestfor.types import FloatArray, RewardEstimate, Scores, Served


class MemberModel(Protocol):
    """A fitted automatic model, as far as persons ask it."""

    def shared_means(self, candidates: Candidates) -> list[FloatArray]:
        """Predict by each member for somebody without labels, each (n,)."""
        ...

    @property
    def effects(self) -> int:
        """Number of a text's effects that others' ratings tell of."""
        ...

    def heard_scores(
        self,
        scores: Sequence[Scores],
        candidates: Candidates,
        others: OtherRatings,
        loading: FloatArray | None = None,
    ) -> list[Scores]:
        """Condition the scores of some requests on what others said of their candidates."""
        ...


@dataclass(frozen=True)
class AutoPerson(Person):
    """A person of several members.

    Attributes:
        model: its members.
        history: what the user wrote before.
        combination: weights.
        persons: of each member.
        factor: shape (2,), 1 + a_u and 1 + b_u.
    """

    model: MemberModel
    history: TextHistory
    combination: Combination
    persons: tuple[Person, ...]
    factor: FloatArray

    def heard(self, scores: Scores, candidates: Candidates, others: OtherRatings) -> Scores:
        """Condition the scores of one request on what others said: along the tastes of the member that has some."""
        tastes = next((one.loading for one in self.persons if isinstance(one, TastesPerson)), None)
        effects = self.model.effects
        loading = tastes if tastes is not None and len(tastes) == effects else None
        return self.model.heard_scores([scores], candidates, others, np.ones(1) if effects == 1 else loading)[0]

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        wrote = self.history if history is None else history
        with same_rows():
            candidates = one_users(self.user, prompts, texts, wrote)
            found = [person.score_many(prompts, texts, wrote) for person in self.persons]
            shared = self.model.shared_means(candidates)
        parts = [_parts(scores, mean) for scores, mean in zip(found, shared, strict=True)]
        factor = np.tile(self.factor, (len(candidates), 1))
        estimate = self.combination.estimate(parts, factor)
        covers = [self.combination.covariance([one.cov_mean for one in each]) for each in zip(*found, strict=True)]
        known = [cover for cover in covers if cover is not None]
        doubt = np.sqrt(np.concatenate([np.maximum(np.diag(cover), 0.0) for cover in known])) if known else None
        std = None if estimate.std is None else rounded(estimate.std)
        told = RewardEstimate(rounded(estimate.mean), std, estimate.std_mean if doubt is None else rounded(doubt))
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        served: list[Served] = [self.served] * (len(ends) - 1)
        return split_estimate(told, ends, served, known if len(known) == len(covers) else None)


def _parts(scores: Sequence[Scores], shared: FloatArray) -> MemberParts:
    """Both parts of one member's person."""
    estimate = RewardEstimate(*(_joined(scores, name) for name in ("mean", "std", "std_mean")))  # pyright: ignore
    return MemberParts(shared, estimate.mean - shared, *variances(estimate))


def _joined(scores: Sequence[Scores], name: str) -> FloatArray | None:
    values = [getattr(one, name) for one in scores]
    return None if any(one is None for one in values) else np.concatenate(values)
