"""Measure BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of single texts, as sacrebleu does."""

from __future__ import annotations

import functools
from typing import Any

from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.metrics.base import AgainstReference, Query


class Ngrams(AgainstReference):
    """Sentence-level BLEU, or chrF, over 100: in [0, 1].

    BLEU takes the effective order: n-gram orders that a short text does not have are left out of the mean, and the
    others smoothed exponentially, as sacrebleu does by default for single sentences. chrF counts characters (orders
    1 to 6, beta = 2), which suits short texts and every script.

    Args:
        name: one of ``names``.

    Raises:
        InputError: an unknown name.
        MissingExtraError: sacrebleu is not installed.
    """

    names = ("bleu", "chrf")
    extras = ("metrics",)

    def __init__(self, name: str = "bleu") -> None:
        if name not in self.names:
            raise InputError("metric", f"'{name}'", nearest(name, self.names))
        _scorer(name)
        self.name = name

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """Name of the metric and sacrebleu's own signature, its version included."""
        scorer = _scorer(self.name)
        scorer.sentence_score("a", ["a"])
        return {"metric": self.name, "sacrebleu": str(scorer.get_signature())}

    def _scores(self, query: Query, reference: str, texts: list[str]) -> list[float]:
        scorer = _scorer(self.name)
        return [scorer.sentence_score(text, [reference]).score / 100 for text in texts]


@functools.cache
def _scorer(name: str) -> Any:  # noqa: ANN401 - an optional library's class
    metrics = require("sacrebleu.metrics", "metrics")
    return metrics.BLEU(effective_order=True) if name == "bleu" else metrics.CHRF()
