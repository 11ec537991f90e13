"""Baselines that learn nothing: how far length and the policy's own probability get.

length:   R(y) = number of characters of y
logprob:  R(y) = log-probability of y under the policy, divided by its number of words
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards.model import RewardModel
from bestfor.types import RewardEstimate


class LengthConfig(BaseModel):
    """Settings of the length baseline.

    Attributes:
        prefer: the long or the short.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefer: Literal["long", "short"] = "long"


class LogprobConfig(BaseModel):
    """Settings of the log-probability baseline.

    Attributes:
        per_word: whether they are divided by the number of words, so that short texts get no bonus.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_word: bool = True


class _Baseline(RewardModel):
    scale = "arbitrary"
    baseline = True
    personal = False

    def _fit(self, candidates: Candidates, rng: int) -> None:
        pass

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return {}, {"nothing": np.zeros(1)}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        pass


class Length(_Baseline):
    """Baseline that prefers the longest (or the shortest) text."""

    kind = "length"
    Config = LengthConfig

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        lengths = np.array([len(text) for text in candidates.texts], dtype=np.float64)
        sign = 1.0 if self.config.prefer == "long" else -1.0
        return RewardEstimate(sign * lengths[candidates.text], None)


class Logprob(_Baseline):
    """Baseline that prefers the text that the policy finds likeliest."""

    kind = "logprob"
    Config = LogprobConfig

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        absent = np.flatnonzero(~np.isfinite(candidates.logprob))
        if len(absent):
            query = candidates.queries[candidates.query[absent[0]]]
            found = (
                f"no log-probability for {len(absent)} of {len(candidates)} candidates (the first in query '{query}')"
            )
            raise InputError("reward 'logprob'", found, "candidates sampled by a policy that reports log-probabilities")
        words = np.array([max(len(text.split()), 1) for text in candidates.texts], dtype=np.float64)
        per = words[candidates.text] if self.config.per_word else 1.0
        return RewardEstimate(candidates.logprob / per, None)
