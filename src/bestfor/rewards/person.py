"""A person: one user's reward, made of a fitted model and of what the user said since.

    person = f(model, labels),   labels sorted by prompt and text, so that their order and portions change nothing

A person holds numbers and a reference to the model, never a share of its state; making one costs a millisecond or two,
so that a service makes them when they are needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from bestfor.data.candidates import Candidates, History
from bestfor.data.labels import Labels
from bestfor.data.others import OtherRatings, code_others
from bestfor.errors import InputError
from bestfor.rewards.memory import once
from bestfor.rewards.rows import rounded
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores, Served

TextHistory = Sequence[str] | None
"""What the user wrote before, oldest first; None where nobody knows."""


@dataclass(frozen=True)
class Person(ABC):
    """The reward of one user.

    Attributes:
        user: whose it is.
        served: what scores: the user's own part, what all users share, or that, since own labels say no more.
        labels_count: labels beyond those of the fit.
        notes: plain sentences about what was made of them.
    """

    user: str
    served: Served
    labels_count: int
    notes: tuple[str, ...]

    def score(
        self,
        prompt: str,
        texts: Sequence[str],
        history: TextHistory = None,
        others: Mapping[str, Labels] | None = None,
    ) -> Scores:
        """Rewards of the candidates of one request.

        Args:
            prompt: what is asked; empty where people rate bare texts.
            texts: n candidates, at least one.
            history: what the user wrote before, where the model looks at it; None takes what the person was made with.
            others: what other people said of these very candidates, by who said it; see
                :meth:`bestfor.rewards.model.RewardModel.score`.

        Raises:
            InputError: no texts, or labels of the user among the others.
        """
        found = self.score_many([prompt], [texts], history)[0]
        if not others:
            return found
        told = code_others([(self.user, prompt, texts)], [others])
        return self.heard(found, Candidates.of(self.user, prompt, texts), told)

    def heard(self, scores: Scores, candidates: Candidates, others: OtherRatings) -> Scores:
        """Condition the scores of one request on what others said; kinds that do not hear it leave them as they are."""
        del candidates, others
        return scores

    @abstractmethod
    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests, as :meth:`score` gives them one by one."""


class RequestScorer(Protocol):
    """A fitted model, as far as persons ask it."""

    def score_many(
        self,
        users: Sequence[str],
        prompts: Sequence[str],
        texts: Sequence[Sequence[str]],
        history: History | None = None,
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
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
class ModelPerson(Person):
    """A person of whom the model knows all: no labels since the fit, or none that it learns from.

    Attributes:
        model: scores.
        history: what the user wrote before.
    """

    model: RequestScorer
    history: TextHistory

    def heard(self, scores: Scores, candidates: Candidates, others: OtherRatings) -> Scores:
        """Condition the scores of one request on what others said."""
        return self.model.heard_scores([scores], candidates, others)[0]

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        wrote = history_of(self.user, self.history if history is None else history)
        return self.model.score_many([self.user] * len(prompts), prompts, texts, wrote)


def history_of(user: str, texts: TextHistory) -> History | None:
    """Make a history of one user's texts."""
    return None if texts is None else History({user: tuple(texts)})


def one_users(user: str, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory) -> Candidates:
    """Code one user's requests.

    Raises:
        InputError: a request without texts.
    """
    empty = next((place for place, each in enumerate(texts) if not len(each)), None)
    if empty is not None:
        raise InputError(f"score, request {empty}", "no texts", "at least one")

    def code() -> Candidates:
        return Candidates.of([user] * len(prompts), list(prompts), texts, history=history_of(user, history))

    return once("requests", (user, prompts, texts, history), code)


def check_said(labels: Labels, kind: str) -> None:
    """Refuse labels that nothing can be learned from.

    Raises:
        InputError: a utility that is not finite, a weight that is not above 0, or a text preferred to itself.
    """
    for one in labels.rated:
        if not np.isfinite(one.utility):
            where = f"labels of '{kind}', prompt '{one.prompt}'"
            raise InputError(where, f"utility {one.utility}", "finite utilities")
    for one in labels.preferred:
        if one.better == one.worse:
            where = f"labels of '{kind}', prompt '{one.prompt}'"
            raise InputError(where, "a text preferred to itself", "two texts")
    for one in (*labels.rated, *labels.preferred):
        if not 0 < one.weight < np.inf:
            where = f"labels of '{kind}', prompt '{one.prompt}'"
            raise InputError(where, f"weight {one.weight}", "finite weights above 0")


def sort_labels(labels: Labels) -> Labels:
    """Sort labels by prompt, texts and values."""
    return Labels(tuple(sorted(labels.rated)), tuple(sorted(labels.preferred)))


def split_estimate(
    estimate: RewardEstimate, ends: IntArray, served: Sequence[Served], covariances: Sequence[FloatArray] | None
) -> list[Scores]:
    """Split the rewards of several requests.

    Args:
        estimate: of all rows.
        ends: shape (requests + 1,), where each request's rows end, from 0.
        served: what scored each request.
        covariances: the posterior covariance of each request's means, None where there is none.
    """
    found = []
    for place, (start, end) in enumerate(pairwise(ends.tolist())):
        std, std_mean = (None if values is None else values[start:end] for values in (estimate.std, estimate.std_mean))
        cover = None if covariances is None else rounded(covariances[place])
        if std_mean is None and cover is not None:
            std_mean = rounded(np.sqrt(np.maximum(np.diag(cover), 0.0)))
        found.append(Scores(estimate.mean[start:end], std, std_mean, served[place], cover))
    return found
