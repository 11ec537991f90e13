"""Overlap with the user's own text: ROUGE (Lin 2004) as the package rouge-score computes it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.types import FloatArray
from bestfor.utilities.base import Query

NAMES = ("rouge1", "rouge2", "rougeL")


class Overlap:
    """F-measure of shared words (rouge1), of shared word pairs (rouge2), or of the longest common subsequence (rougeL).

    Words are lower-cased runs of letters a-z and digits, and words of more than three letters are stemmed by Porter's
    rules (``use_stemmer=True``, as LaMP's evaluation does), so texts in other scripts have no overlap at all.

    Args:
        name: one of ``NAMES``.

    Raises:
        InputError: an unknown name.
        MissingExtraError: rouge-score is not installed.
    """

    def __init__(self, name: str = "rougeL") -> None:
        if name not in NAMES:
            raise InputError("metric", f"'{name}'", nearest(name, NAMES))
        self.name = name
        self._scorer = require("rouge_score.rouge_scorer", "metrics").RougeScorer([name], tokenizer=_tokenizer())

    @property
    def signature(self) -> dict[str, str | int | float | bool]:
        """The metric, its stemming and the version of rouge-score."""
        return {"metric": self.name, "stemmer": True, "rouge-score": version("rouge-score")}

    def measure(self, query: Query, texts: Sequence[str]) -> FloatArray:
        """Overlap of texts with the query's reference.

        Args:
            query: must have a reference.
            texts: n candidates.

        Returns:
            Shape (n,), each in [0, 1].

        Raises:
            InputError: the query has no reference.
        """
        if query.reference is None:
            raise InputError(
                f"query '{query.query_id}'", "no reference", f"the user's own text, which {self.name} needs"
            )
        known = {text: self._scorer.score(query.reference, text)[self.name].fmeasure for text in dict.fromkeys(texts)}
        return np.array([known[text] for text in texts], dtype=np.float64)


@functools.cache
def _tokenizer() -> object:
    tokenizers = require("rouge_score.tokenizers", "metrics")
    plain = tokenizers.DefaultTokenizer(use_stemmer=True)

    class Remembering(tokenizers.Tokenizer):
        """rouge-score's own tokenizer; a reference is tokenized once and not once for every candidate."""

        @functools.lru_cache(maxsize=4096)  # noqa: B019 - there is one instance
        def tokenize(self, text: str) -> list[str]:
            return plain.tokenize(text)

    return Remembering()
