"""Choose the two texts whose comparison by a person is worth most to their later answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bestfor.errors import InputError
from bestfor.selection import PairRule, answer_noise, pair_to_show
from bestfor.types import Scores, Served


@dataclass(frozen=True)
class PairQuestion:
    """Two texts to show a person; it unpacks as ``a, b = question``.

    Attributes:
        user: who is asked.
        prompt: what the texts are for.
        texts: the two, the one with the higher reward first.
        places: where they stand among the texts that were given.
        rule: by which they were chosen.
        scores: rewards of all distinct texts.
        served: what scored.
        notes: plain sentences, where another rule than the one asked for was taken.
    """

    user: str
    prompt: str
    texts: tuple[str, str]
    places: tuple[int, int]
    rule: PairRule
    scores: Scores
    served: Served
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


def distinct(texts: Sequence[str]) -> list[str]:
    """Keep each text once, in the order given.

    Raises:
        InputError: fewer than two are left.
    """
    found = list(dict.fromkeys(texts))
    if len(found) < 2:
        raise InputError("texts", f"{len(found)} distinct text", "two that differ, to be compared")
    return found


def question_of(
    asked: tuple[str, str, Sequence[str]], texts: list[str], scores: Scores, rule: PairRule, rng: np.random.Generator
) -> PairQuestion:
    """Choose the pair of some scored texts.

    A model that knows no uncertainty gives no worth to a question: its two best texts are shown, and a note says so.

    Args:
        asked: the user, the prompt and the texts as they were given.
        texts: the distinct ones, which were scored.
        scores: of these.
        rule: as for :func:`~bestfor.selection.pair_to_show`.
        rng: draws the pair of ``"random"``.

    Raises:
        InputError: an unknown rule, or rewards that are not finite.
    """
    user, prompt, given = asked
    spread = scores.cov_mean if scores.cov_mean is not None else scores.std_mean
    taken: PairRule = rule if spread is not None or rule in ("random", "top-two") else "top-two"
    noise = answer_noise(scores)
    a, b = pair_to_show(
        scores.mean,
        np.zeros(len(texts)) if spread is None else spread,
        rule=taken,
        noise=noise if np.isfinite(noise) and noise > 0 else 1.0,
        rng=rng,
    )
    notes = () if taken == rule else (f"rule '{taken}' in place of '{rule}': the served model knows no uncertainty",)
    places = (list(given).index(texts[a]), list(given).index(texts[b]))
    return PairQuestion(user, prompt, (texts[a], texts[b]), places, taken, scores, scores.served, notes)
