"""Pick one candidate of a request: the exact chance of every candidate under a rule, and a draw by these chances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bestfor.errors import InputError
from bestfor.selection.posterior import chances_of_highest
from bestfor.selection.rules import Rule, named_rule
from bestfor.types import FloatArray, RewardEstimate, Scores


@dataclass(frozen=True)
class Pick:
    """The candidate that a rule picks among n.

    Attributes:
        index: of the pick.
        chances: shape (n,), the probability that the rule picks each candidate; they sum to 1. Candidates that tie
            share theirs equally. A drawn pick was drawn by exactly these numbers, which can be logged and learned from.
        expected: mean reward of the pick under these chances, in the rewards' units.
        drawn: whether the pick was drawn by its chances; if not it is the likeliest candidate, the first of several.
        chances_error: shape (n,), the chances' standard errors where they were counted among draws (``thompson`` with
            correlated means); None where they are exact.
        rule: the rule's name.
    """

    index: int
    chances: FloatArray
    expected: float
    drawn: bool = False
    chances_error: FloatArray | None = None
    rule: str = "best"

    @property
    def chance(self) -> float:
        """The probability with which this pick was made: 1 where nothing was drawn."""
        return float(self.chances[self.index]) if self.drawn else 1.0


def select(
    scores: npt.ArrayLike | RewardEstimate | Scores,
    rule: str | Rule = "best",
    *,
    texts: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
) -> Pick:
    """Pick one candidate by its rewards.

    Args:
        scores: shape (n,), the candidates' rewards, or what a reward model says of them: ``lower:`` needs standard
            deviations, ``thompson`` those of the means (or their covariance).
        rule: a name as for :func:`~bestfor.selection.named_rule`, or a rule.
        texts: the candidates' texts, which ``length_capped:`` needs.
        rng: draws the pick by its chances; where None it is the likeliest candidate, the first of several.

    Returns:
        The pick, with the chances of all candidates.

    Raises:
        InputError: no candidates, rewards that are not finite, or a rule that is not known or cannot be used.
    """
    rule = named_rule(rule) if isinstance(rule, str) else rule
    given = scores if isinstance(scores, RewardEstimate | Scores) else Scores(_numbers(scores))
    mean = np.asarray(given.mean, dtype=np.float64)
    if mean.ndim != 1 or not len(mean):
        raise InputError("scores", f"shape {mean.shape}", "one reward a candidate, at least one")
    if texts is not None and len(texts) != len(mean):
        raise InputError("texts", str(len(texts)), f"one for each of the {len(mean)} rewards")
    _check_finite("the reward", mean)
    chances, error = _chances(rule, given, mean, texts)
    index = int(chances.argmax()) if rng is None else int(rng.choice(len(chances), p=chances))
    return Pick(index, chances, float(chances @ mean), rng is not None, error, rule.name)


def _numbers(scores: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("scores", f"what is no array of numbers ({error})", "one reward a candidate") from error


def _check_finite(what: str, values: FloatArray) -> None:
    unknown = np.flatnonzero(~np.isfinite(values))
    if len(unknown):
        value = float(values[unknown[0]])
        raise InputError(f"scores, candidate {int(unknown[0])}", f"{what} {value}", "a finite number")


def _chances(
    rule: Rule, scores: RewardEstimate | Scores, mean: FloatArray, texts: Sequence[str] | None
) -> tuple[FloatArray, FloatArray | None]:
    """Compute the probability that the rule picks each candidate, and its standard error if it was counted."""
    if rule.thompson:
        return _thompson(scores, mean)
    std = None if scores.std is None else np.asarray(scores.std, dtype=np.float64)[None]
    length = rule.cap.lengths(texts)[None] if rule.cap is not None and texts is not None else None
    ranked = rule.ranked(mean[None], std, length)[0]
    _check_finite(f"rule {rule.name} of", ranked)
    if rule.temperature is not None:
        # A distance of more temperatures than a double can hold has a weight of 0, as it should.
        with np.errstate(over="ignore"):
            weight = np.exp((ranked - ranked.max()) / rule.temperature)
        return weight / weight.sum(), None
    _, group, members = np.unique(-ranked, return_inverse=True, return_counts=True)
    share = np.add.reduceat(rule.rank_chances(len(mean)), np.cumsum(members) - members)
    return (share / members)[group], None


def _thompson(scores: RewardEstimate | Scores, mean: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    covariance = getattr(scores, "cov_mean", None)
    spread = scores.std_mean if covariance is None else covariance
    if spread is None:
        expected = "those of the means (std_mean), which models with a posterior give"
        raise InputError("rule thompson", "no standard deviations of the means", expected)
    spread = np.asarray(spread, dtype=np.float64)
    if spread.shape != mean.shape * (1 if covariance is None else 2):
        raise InputError(
            "rule thompson", f"standard deviations or covariance of shape {spread.shape}", "one a candidate"
        )
    if not np.isfinite(spread).all() or (spread if covariance is None else np.diag(spread)).min() < 0:
        raise InputError(
            "rule thompson", "a standard deviation that is negative or not finite", "finite ones, 0 or more"
        )
    return chances_of_highest(mean, spread)
