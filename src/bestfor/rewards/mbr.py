"""MBR: the candidate that is most like the query's others wins (minimum Bayes risk, self-consistency).

    R(y_i) = mean over j != i of s(y_i, y_j),    y_j the other candidates at hand for the same query

With s as the utility of a hypothesis against a sample that stands for the truth, this is the sampling estimate of
minimum Bayes risk decoding (Kumar & Byrne 2004; Eikema & Aziz 2022); with s = [y_i = y_j], ``by = "exact"``, it is the
majority vote of self-consistency (Wang et al. 2023), where texts are equal that have the same words in the same order.
Free texts are seldom equal: where no two are, all rewards are 0 and the first candidate is the answer. Nothing is
learned, nothing is known of the user. Scale arbitrary.

A candidate's reward depends on the others that were drawn. ``predict`` takes all rows of a query as what was drawn, so
a Best-of-N curve drawn from these rewards ranks N candidates by what a larger pool says of them: it knows more than N
samples do, and is no curve of MBR below the pool's size. :func:`bestfor.diagnostics.mbr_curve` has that one, from
the matrices of :func:`rouge_matrix`, :func:`cosine_matrix` or :func:`exact_matrix`. The two agree at N = m alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.metrics.overlap import words
from bestfor.rewards.features import check_signature, unit_rows
from bestfor.rewards.model import RewardModel
from bestfor.types import FloatArray, RewardEstimate


class Config(BaseModel):
    """Likeness of two candidates.

    Attributes:
        by: rougeL (F-measure of the longest common subsequence of words), cosine (of embeddings) or exact (1 where the
            words are the same, case and punctuation aside: the vote of self-consistency).
        encoder: name of the sentence encoder, for ``cosine``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["rougeL", "cosine", "exact"] = "rougeL"
    encoder: str = "all-MiniLM-L6-v2"


def mean_of_others(likeness: FloatArray) -> FloatArray:
    """Mean of each row without the diagonal, (m, m) -> (m,); 0 where there is no other."""
    others = likeness.sum(axis=1) - np.diag(likeness)
    return others / max(len(likeness) - 1, 1)


def rouge_matrix(texts: Sequence[str]) -> FloatArray:
    """ROUGE-L between all pairs: F = 2c / (a + b) with c words in common of a and b (Lin 2004).

    Args:
        texts: m candidates; equal ones are compared once.

    Returns:
        Shape (m, m), symmetric, in [0, 1]; 0 where a text has no word (also on the diagonal).
    """
    distinct = list(dict.fromkeys(texts))
    split = [words(text) for text in distinct]
    codes = {word: code for code, word in enumerate(dict.fromkeys(chain.from_iterable(split)))}
    coded = [[codes[word] for word in tokens] for tokens in split]
    shared = cdist(coded, coded, scorer=LCSseq.similarity, dtype=np.int64)
    lengths = np.array([len(tokens) for tokens in split])
    total = lengths[:, None] + lengths
    found = np.divide(2 * shared, total, out=np.zeros(total.shape), where=total > 0)
    place = {text: code for code, text in enumerate(distinct)}
    rows = [place[text] for text in texts]
    return found[np.ix_(rows, rows)]


def exact_matrix(texts: Sequence[str]) -> FloatArray:
    """Votes of all pairs: 1 where two texts have the same words in the same order, shape (m, m).

    Words are those of ROUGE: lower case, letters and digits alone. A text without any has no vote, as there.
    """
    number: dict[tuple[str, ...], int] = {}
    codes = np.array([number.setdefault(tuple(words(text)), len(number)) for text in texts], dtype=np.int64)
    known = codes != number.get((), -1)
    return ((codes[:, None] == codes) & known).astype(np.float64)


def cosine_matrix(texts: Sequence[str], encoder: Encoder) -> FloatArray:
    """Cosines of the embeddings of all pairs, shape (m, m), in [-1, 1]; 0 where a vector has length 0."""
    return _cosines(_vectors(texts, encoder))


def _vectors(texts: Sequence[str], encoder: Encoder) -> FloatArray:
    return unit_rows(encoder.encode(list(texts)).astype(np.float64))


def _cosines(vectors: FloatArray) -> FloatArray:
    return np.clip(vectors @ vectors.T, -1.0, 1.0)


class Mbr(RewardModel):
    """Likeness to the query's other candidates."""

    kind = "mbr"
    alone = False
    personal = False
    scale = "arbitrary"
    Config = Config

    def _fit(self, candidates: Candidates, rng: int) -> None:
        self._signature = self._require_encoder().signature if self.config.by == "cosine" else ""

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        if self.config.by == "cosine":
            encoder = self._require_encoder()
            check_signature(encoder, self.config.encoder, self._signature)
            # once for all queries: an encoder is fastest with many texts
            used, text = np.unique(candidates.text, return_inverse=True)
            vectors = _vectors([candidates.texts[code] for code in used], encoder)
        mean = np.zeros(len(candidates))
        order = np.lexsort((candidates.candidate, candidates.query))
        _, starts = np.unique(candidates.query[order], return_index=True)
        for rows in np.split(order, starts[1:]):
            if self.config.by == "cosine":
                likeness = _cosines(vectors[text[rows]])
            else:
                matrix = exact_matrix if self.config.by == "exact" else rouge_matrix
                likeness = matrix([candidates.texts[code] for code in candidates.text[rows]])
            mean[rows] = mean_of_others(likeness)
        return RewardEstimate(mean, None)

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return {"signature": self._signature}, {"nothing": np.zeros(1)}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._signature = state["signature"]
        if not isinstance(self._signature, str) or bool(self._signature) != (self.config.by == "cosine"):
            raise TypeError(f"'signature' is {self._signature!r}")
