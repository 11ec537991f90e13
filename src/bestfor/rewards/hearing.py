"""Methods of kinds that hear other people's ratings of a text; the other kinds say that they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.data.labels import JOURNAL
from bestfor.data.others import OtherRatings
from bestfor.rewards.others import UNHEARD, Raters, condition, moved, moved_scores
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores


class Hearing:
    """Conditions rewards on what others said; a kind that hears says what its texts' effects and raters are."""

    hears: ClassVar[bool] = False
    """Whether other people's ratings of the very texts move rewards: it has :meth:`text_effects`."""

    kind: ClassVar[str]

    _whole: Self | None = None
    """The model of all users, where this one has some of them: others are looked up there."""

    def _among(self, users: Iterable[str]) -> Self:
        """Give the model with the rows of some users."""
        raise NotImplementedError

    def fitted_rewards(self, candidates: Candidates) -> RewardEstimate:
        """Rewards of n rows by what the fit learned alone."""
        raise NotImplementedError

    def _known_codes(self, users: tuple[str, ...], *, abstaining: bool = False) -> IntArray:
        """Index into the fitted users, -1 where there is none."""
        raise NotImplementedError

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Prior variances of what each row's text has beyond its words, shape (n, effects); see ``rewards.others``."""
        raise NotImplementedError(f"'{self.kind}' hears nobody else")

    @property
    def hidden_variance(self) -> float:
        """Variance of a text's first effect that ``std_mean`` does not hold while nobody said anything of it."""
        return 0.0

    @property
    def rating_noise(self) -> float | None:
        """Variance of a rating's noise where it was learned; None: what ``std`` holds beside the text's effects."""
        return None

    def raters(self, users: Sequence[str]) -> Raters:
        """Say how these people's rewards move with a text's effects: all alike, unless a kind knows better."""
        none = np.zeros(len(users))
        return Raters(np.ones((len(users), 1)), none, none)

    def heard_scores(
        self,
        scores: Sequence[Scores],
        candidates: Candidates,
        others: OtherRatings,
        loading: FloatArray | None = None,
    ) -> list[Scores]:
        """Condition the scores of some requests on what others said; kinds that do not hear it leave them as they are.

        Args:
            scores: of each query of the rows.
            candidates: the rows.
            others: of these rows.
            loading: how the one who asks moves with a text's effects; None takes what the fit says of each user.
        """
        if not self.hears:
            return list(scores)
        model = self if self._whole is None else self._whole._among((*candidates.users, *others.users))
        told = condition(model, candidates, others, loading)
        return [moved_scores(one, told.take(candidates.query == query)) for query, one in enumerate(scores)]

    def _heard(self, candidates: Candidates, estimate: RewardEstimate) -> RewardEstimate:
        """Condition rewards on what others said of the rows, where they say anything."""
        if candidates.others is None:
            return estimate
        if not self.hears:
            return replace(estimate, notes=(*estimate.notes, UNHEARD.format(kind=self.kind)))
        return moved(estimate, condition(self, candidates, candidates.others))

    def _rater_codes(self, users: Sequence[str]) -> IntArray:
        """Index into the fitted users, -1 where there is none or one who abstains; a journal's people by their rows."""
        codes = self._known_codes(tuple(users))
        return np.where(codes < 0, self._known_codes(tuple(user + JOURNAL for user in users)), codes)
