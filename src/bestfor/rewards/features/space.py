"""Map texts to features: principal components of the embedding, style, answer to the input, nearness to the history.

Everything learned here (centre, principal axes, scales) is learned from the distinct texts of the fit part. Columns
have mean 0 and, over these texts, variance 1, so one prior variance suits them all; components that are not whitened
keep their ratios and have variance 1 on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.errors import BestforError, InputError
from bestfor.rewards.features.embeddings import check_signature
from bestfor.rewards.features.history import HISTORY, history_features
from bestfor.rewards.features.style import ANSWER, STYLE, answer_features, style_features
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray

CLIP = 5.0
CHUNK = 2**14
"""Texts whose embeddings are held in double precision at once; of more, axes come from sums of products."""
_TINY = 1e-9


class FeatureConfig(BaseModel):
    """Choose which features a model sees.

    Attributes:
        encoder: name of the sentence encoder.
        components: principal components of the embedding that are kept; 0 needs no encoder.
        whiten: whether each component gets variance 1; otherwise all are divided by one common factor, so that
            directions in which texts differ more also count for more under one prior variance.
        style: whether surface features (length, punctuation, ...) are added.
        answer: whether features of text and input together are added where inputs are not empty.
        input_components: principal components of the input's embedding that are added where inputs are not empty, and
            their products with those of the text.
        history: whether nearness to what the user wrote before is added where that is known; where it is not known at
            prediction these columns say nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    components: int = Field(default=32, ge=0, le=4096)
    whiten: bool = True
    style: bool = True
    answer: bool = True
    input_components: int = Field(default=0, ge=0, le=4096)
    history: bool = False


@dataclass(frozen=True)
class Pairs:
    """Distinct (query or input, text) pairs, by the codes of the candidates, and the pair of each row."""

    text: IntArray
    query: IntArray
    row: IntArray


@dataclass(frozen=True)
class Design:
    """Features of distinct (input, text) pairs and the pair of each row.

    Attributes:
        values: shape (pairs, features).
        row: shape (n,), the pair of each example.
    """

    values: FloatArray
    row: IntArray

    def rows(self) -> FloatArray:
        """Features of every example, shape (n, features)."""
        return self.values[self.row]


@dataclass(frozen=True)
class Space:
    """A fitted feature map.

    Attributes:
        config: the choice of features.
        signature: content hash of the encoder, empty where none is used.
        centre: shape (dim,), mean embedding of the fit texts.
        axes: shape (dim, k), principal directions over their scales.
        spread: shape (k,), standard deviations of the components over the fit texts; ones where they are whitened.
        shift: shape (surface,), means of the surface features.
        width: shape (surface,), their standard deviations; infinite where a feature never varied.
        answers: whether features of text and input together are among the surface features.
        history: whether nearness to the user's history is.
    """

    config: FeatureConfig
    signature: str
    centre: FloatArray
    axes: FloatArray
    spread: FloatArray
    shift: FloatArray
    width: FloatArray
    answers: bool
    history: bool = False

    @property
    def size(self) -> int:
        """Number of features."""
        return self.axes.shape[1] + len(self.shift)

    @property
    def columns(self) -> list[str]:
        """Names of all features, in their order."""
        kept = range(min(self.config.input_components, self.axes.shape[1]) if self.answers else 0)
        names = [f"embedding.{index}" for index in range(self.axes.shape[1])]
        names += [f"style.{name}" for name in STYLE] if self.config.style else []
        names += [f"answer.{name}" for name in ANSWER] if self.answers and self.config.answer else []
        names += [f"input.{index}" for index in kept] + [f"product.{index}" for index in kept]
        return names + ([f"history.{name}" for name in HISTORY] if self.history else [])

    @cached_property
    def single(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Centre, axes and the limits of components in single precision, for fast scoring of one user."""
        kept = (self.centre, self.axes, CLIP * self.spread)
        centre, axes, limit = (np.ascontiguousarray(values, dtype=np.float32) for values in kept)
        return centre, axes, limit

    def arrays(self) -> Arrays:
        """Arrays to store."""
        return {
            "space.centre": self.centre,
            "space.axes": self.axes,
            "space.spread": self.spread,
            "space.shift": self.shift,
            "space.width": self.width,
        }

    def describe(self) -> dict[str, Any]:
        """JSON values to store."""
        described = {"config": self.config.model_dump(), "signature": self.signature, "columns": self.columns}
        return {**described, "answers": self.answers, "history": self.history}

    def design(self, candidates: Candidates, encoder: Encoder | None) -> Design:
        """Features of the candidates' distinct (input, text) pairs.

        Args:
            candidates: n rows.
            encoder: the encoder that the space was fitted with; None where ``components`` is 0.

        Raises:
            InputError: the encoder is another one.
        """
        pairs = _pairs(candidates, answers=self.answers, history=self.history)
        parts: list[FloatArray] = []
        if self.axes.shape[1]:
            parts.append(self._components(_texts(candidates, pairs), encoder))
        surface = limited((self.surface(candidates, pairs, encoder) - self.shift) / self.width, CLIP)
        surface[np.isnan(surface)] = 0.0
        parts.append(surface)
        return Design(np.ascontiguousarray(np.concatenate(parts, axis=1)), pairs.row)

    def of_embeddings(
        self, embeddings: npt.NDArray[np.floating], surface: npt.NDArray[np.floating] | None = None
    ) -> npt.NDArray[Any]:
        """Features of texts whose embeddings are at hand, in half the time of double precision.

        Args:
            embeddings: shape (n, dim), from the model's encoder.
            surface: shape (n, surface), the columns beside the components, as :meth:`design` gives them.

        Raises:
            BestforError: there are surface features and none are given.
        """
        parts: list[npt.NDArray[Any]] = []
        if self.axes.shape[1]:
            # embeddings come in single precision anyway
            centre, axes, limit = self.single
            components = (embeddings.astype(np.float32, copy=False) - centre) @ axes
            np.maximum(components, -limit, out=components)
            parts.append(np.minimum(components, limit, out=components))
        if len(self.shift):
            if surface is None:
                raise BestforError(f"the model has {len(self.shift)} surface features: give them, or fit without")
            parts.append(surface)
        return parts[0] if len(parts) == 1 else np.hstack(parts) if parts else np.zeros((len(embeddings), 0))

    def surface(self, candidates: Candidates, pairs: Pairs, encoder: Encoder | None) -> FloatArray:
        """Features beside the components, not yet standardised, shape (pairs, surface); NaN where one is not known."""
        texts, parts = _texts(candidates, pairs), list[FloatArray]()
        if self.config.style:
            parts.append(style_features(texts))
        if self.answers:
            given = [candidates.inputs[code] for code in pairs.query]
            parts += self._answer_columns(texts, given, encoder)
        if self.history and encoder is not None:
            parts.append(history_features(candidates, encoder, pairs.text, pairs.query))
        if len(parts) == 1:
            return parts[0]
        return np.hstack(parts) if parts else np.zeros((len(texts), 0))

    def _answer_columns(self, texts: Sequence[str], given: Sequence[str], encoder: Encoder | None) -> list[FloatArray]:
        """Features of text and input together."""
        parts = []
        if self.config.answer:
            near = np.zeros(len(texts))
            if self.config.components:
                near = np.sum(_embed(encoder, texts) * _embed(encoder, given), axis=1)
            parts.append(answer_features(texts, given, near))
        if self.config.input_components and self.axes.shape[1]:
            kept = slice(0, self.config.input_components)
            inputs = self._components(given, encoder)[:, kept]
            parts += [inputs, inputs * self._components(texts, encoder)[:, kept]]
        return parts

    def _components(self, texts: Sequence[str], encoder: Encoder | None) -> FloatArray:
        self.check(encoder)
        limit, vectors = CLIP * self.spread, _encode(encoder, texts)
        with for_size(len(self.axes)):
            if len(vectors) <= CHUNK:
                return limited((vectors - self.centre) @ self.axes, limit)
            found = np.vstack([(part - self.centre) @ self.axes for part in _doubles(vectors)])
        return limited(found, limit)

    def check(self, encoder: Encoder | None) -> None:
        """Refuse another encoder than the one that the space was fitted with."""
        check_signature(encoder, self.config.encoder, self.signature)


def fit_space(config: FeatureConfig, candidates: Candidates, encoder: Encoder | None) -> Space:
    """Learn the feature map from the texts that occur in the rows; the vocabulary may hold others."""
    wanted = config.answer or config.input_components > 0
    answers = wanted and any(candidates.inputs[code].strip() for code in np.unique(candidates.query))
    history = config.history and candidates.history is not None and encoder is not None
    pairs = _pairs(candidates, answers=answers, history=history)
    centre, axes, spread, signature = np.zeros(0), np.zeros((0, 0)), np.zeros(0), ""
    if config.components:
        if encoder is None:
            raise InputError("encoder", "none", f"'{config.encoder}', or components = 0")
        vectors = _encode(encoder, sorted(set(_texts(candidates, pairs))))
        centre, axes, spread = _principal(vectors, config.components, whiten=config.whiten)
        signature = encoder.signature
    space = Space(config, signature, centre, axes, spread, np.zeros(0), np.zeros(0), answers, history)
    surface = space.surface(candidates, pairs, encoder)
    known = np.isfinite(surface)
    count = np.maximum(known.sum(axis=0), 1)
    shift = np.where(known, surface, 0).sum(axis=0) / count
    width = np.sqrt(np.where(known, (surface - shift) ** 2, 0).sum(axis=0) / count)
    return replace(space, shift=shift, width=np.where(width > _TINY, width, np.inf))


def restore_space(described: dict[str, Any], arrays: Arrays) -> Space:
    """Restore the space that :meth:`Space.describe` and :meth:`Space.arrays` stored.

    Raises:
        InputError: arrays are absent or their shapes do not belong together.
    """
    try:
        config = FeatureConfig(**described["config"])
        centre, axes, spread = (arrays[f"space.{name}"] for name in ("centre", "axes", "spread"))
        shift, width = arrays["space.shift"], arrays["space.width"]
        signature, answers = str(described["signature"]), bool(described["answers"])
        history, columns = bool(described["history"]), list(described["columns"])
        space = Space(config, signature, centre, axes, spread, shift, width, answers, history)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("saved features", f"incomplete ({error})", "the features of a saved model") from error
    shapes_fit = axes.ndim == 2 and centre.shape == axes.shape[:1] and axes.shape[1] <= config.components
    surface = len(space.columns) - axes.shape[1] if shapes_fit else -1
    if not shapes_fit or spread.shape != axes.shape[1:] or {shift.shape, width.shape} != {(surface,)}:
        found = f"arrays of shapes {centre.shape}, {axes.shape}, {spread.shape}, {shift.shape}, {width.shape}"
        raise InputError("saved features", found, f"at most {config.components} axes and {surface} surface features")
    if columns != space.columns:
        raise InputError("saved features", ", ".join(map(str, columns)), ", ".join(space.columns))
    return space


def _pairs(candidates: Candidates, *, answers: bool, history: bool) -> Pairs:
    """Distinct texts, texts under an input, or, where users' histories count, texts under a query."""
    if not (answers or history):
        text, row = distinct_texts(candidates)
        return Pairs(text, np.zeros_like(text), row)
    query = candidates.query
    if not history:
        codes = {given: code for code, given in reversed(list(enumerate(candidates.inputs)))}
        query = np.array([codes[given] for given in candidates.inputs], dtype=np.int64)[query]
    distinct, row = np.unique(query * len(candidates.texts) + candidates.text, return_inverse=True)
    return Pairs(distinct % len(candidates.texts), distinct // len(candidates.texts), row)


def distinct_texts(candidates: Candidates) -> tuple[IntArray, IntArray]:
    """Codes of the texts that occur, ascending, and the place of each row's among them."""
    every = np.arange(len(candidates.texts))
    if len(candidates.text) == len(every) and np.array_equal(candidates.text, every):
        return every, every
    text, row = np.unique(candidates.text, return_inverse=True)
    return text, row


def limited(values: FloatArray, limit: float | FloatArray) -> FloatArray:
    """Limit new values to -limit .. limit in place; NaN stays."""
    np.maximum(values, -limit, out=values)
    return np.minimum(values, limit, out=values)


def _texts(candidates: Candidates, pairs: Pairs) -> list[str]:
    return [candidates.texts[code] for code in pairs.text]


def _embed(encoder: Encoder | None, texts: Sequence[str]) -> FloatArray:
    return _encode(encoder, texts).astype(np.float64)


def _encode(encoder: Encoder | None, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    if encoder is None:
        raise InputError("encoder", "none", "an encoder, or components = 0")
    return encoder.encode(texts)


def _doubles(vectors: npt.NDArray[np.float32]) -> Iterator[FloatArray]:
    """Vectors in double precision, some at a time: all of many texts would take twice what they take."""
    for start in range(0, max(len(vectors), 1), CHUNK):
        yield vectors[start : start + CHUNK].astype(np.float64)


def _principal(
    vectors: npt.NDArray[np.float32], components: int, *, whiten: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre, principal directions over their scales, and their spread then; none where there is no variance."""
    with for_size(vectors.shape[1]):
        centre, singular, rotation = _singular(vectors) if len(vectors) <= CHUNK else _singular_of_many(vectors)
    spread = singular / np.sqrt(max(len(vectors), 1))
    kept = int(min(components, np.sum(spread > 1e-6)))
    spread = spread[:kept]
    scale = spread if whiten else np.full(kept, np.sqrt(np.mean(spread**2)) if kept else 1.0)
    axes = rotation[:kept].T / scale
    largest = np.argmax(np.abs(axes), axis=0)
    signs = np.sign(axes[largest, np.arange(kept)])
    return centre, np.ascontiguousarray(axes * np.where(signs == 0, 1.0, signs)), spread / scale


def _singular(vectors: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, singular values and right singular vectors of the centred rows."""
    whole = vectors.astype(np.float64)
    centre = whole.mean(axis=0)
    _, singular, rotation = np.linalg.svd(whole - centre, full_matrices=False)
    return centre, singular, rotation


def _singular_of_many(vectors: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same from sums of products, in one pass and without a copy of all rows; small singular values lose digits."""
    centre = sum((part.sum(axis=0) for part in _doubles(vectors)), np.zeros(vectors.shape[1])) / len(vectors)
    gram = sum(((part - centre).T @ (part - centre) for part in _doubles(vectors)), np.zeros((len(centre),) * 2))
    values, axes = np.linalg.eigh(gram)
    return centre, np.sqrt(np.maximum(values[::-1], 0.0)), axes[:, ::-1].T
