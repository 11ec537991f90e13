"""What a text looks like to a reward model: its embedding's principal components, its style, how it answers the input.

Everything learned here (centre, principal axes, scales) is learned from the distinct texts of the fit part. Columns
have mean 0 and, over these texts, variance 1, so one prior variance suits them all; components that are not whitened
keep their ratios and have variance 1 on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bestfor.artifacts import Arrays
from bestfor.data.examples import Examples
from bestfor.encoders import Encoder
from bestfor.errors import InputError
from bestfor.rewards._style import ANSWER, STYLE, answer_features, style_features
from bestfor.types import FloatArray, IntArray

CLIP = 5.0
_TINY = 1e-9


class FeatureConfig(BaseModel):
    """Which features a model sees.

    Attributes:
        encoder: name of the sentence encoder.
        components: principal components of the embedding that are kept; 0 needs no encoder.
        whiten: whether each component gets variance 1; otherwise all are divided by one common factor, so that
            directions in which texts differ more also count for more under one prior variance.
        style: whether surface features (length, punctuation, ...) are added.
        answer: whether features of text and input together are added where inputs are not empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    components: int = Field(default=32, ge=0, le=4096)
    whiten: bool = True
    style: bool = True
    answer: bool = True


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
        config: what it was asked for.
        signature: content hash of the encoder, empty where none is used.
        centre: shape (dim,), mean embedding of the fit texts.
        axes: shape (dim, k), principal directions over their scales.
        spread: shape (k,), standard deviations of the components over the fit texts; ones where they are whitened.
        shift: shape (surface,), means of the surface features.
        width: shape (surface,), their standard deviations; infinite where a feature never varied.
        answers: whether features of text and input together are among the surface features.
    """

    config: FeatureConfig
    signature: str
    centre: FloatArray
    axes: FloatArray
    spread: FloatArray
    shift: FloatArray
    width: FloatArray
    answers: bool

    @property
    def size(self) -> int:
        """Number of features."""
        return self.axes.shape[1] + len(self.shift)

    def arrays(self) -> Arrays:
        """What is stored as tensors."""
        return {
            "space.centre": self.centre,
            "space.axes": self.axes,
            "space.spread": self.spread,
            "space.shift": self.shift,
            "space.width": self.width,
        }

    def describe(self) -> dict[str, Any]:
        """What is stored as JSON."""
        return {"config": self.config.model_dump(), "signature": self.signature, "answers": self.answers}

    def design(self, examples: Examples, encoder: Encoder | None) -> Design:
        """Features of the examples' distinct (input, text) pairs.

        Args:
            examples: n rows.
            encoder: the encoder that the space was fitted with; None where ``components`` is 0.

        Raises:
            InputError: the encoder is another one.
        """
        text, inputs, row = _pairs(examples, self.answers)
        texts = [examples.texts[code] for code in text]
        parts: list[FloatArray] = []
        if self.axes.shape[1]:
            self.check(encoder)
            limit = CLIP * self.spread
            parts.append(np.clip((_embed(encoder, texts) - self.centre) @ self.axes, -limit, limit))
        asked = [examples.inputs[code] for code in inputs] if self.answers else None
        surface = _surface(self.config, texts, asked, encoder)
        parts.append(np.clip((surface - self.shift) / self.width, -CLIP, CLIP))
        return Design(np.ascontiguousarray(np.hstack(parts)), row)

    def check(self, encoder: Encoder | None) -> None:
        """Refuse another encoder than the one that the space was fitted with."""
        check_signature(encoder, self.config.encoder, self.signature)


def check_signature(encoder: Encoder | None, name: str, signature: str) -> None:
    """Refuse an encoder whose content is not what a model was fitted with.

    Raises:
        InputError: the message names both signatures.
    """
    if encoder is None or encoder.signature != signature:
        found = "no encoder" if encoder is None else f"'{encoder.name}' with signature {encoder.signature[:16]}"
        raise InputError("encoder", found, f"'{name}' with signature {signature[:16]}")


def fit_space(config: FeatureConfig, examples: Examples, encoder: Encoder | None) -> Space:
    """Learn the feature map from the texts that occur in the rows; the vocabulary may hold others."""
    answers = config.answer and any(examples.inputs[code].strip() for code in np.unique(examples.query))
    text, inputs, _ = _pairs(examples, answers)
    texts = [examples.texts[code] for code in text]
    centre, axes, spread, signature = np.zeros(0), np.zeros((0, 0)), np.zeros(0), ""
    if config.components:
        if encoder is None:
            raise InputError("encoder", "none", f"'{config.encoder}', or components = 0")
        vectors = _embed(encoder, sorted(set(texts)))
        centre, axes, spread = _principal(vectors, config.components, whiten=config.whiten)
        signature = encoder.signature
    asked = [examples.inputs[code] for code in inputs] if answers else None
    surface = _surface(config, texts, asked, encoder)
    width = surface.std(axis=0)
    width = np.where(width > _TINY, width, np.inf)
    return Space(config, signature, centre, axes, spread, surface.mean(axis=0), width, answers)


def restore_space(described: dict[str, Any], arrays: Arrays) -> Space:
    """The space that :meth:`Space.describe` and :meth:`Space.arrays` stored.

    Raises:
        InputError: arrays are absent or their shapes do not belong together.
    """
    try:
        config = FeatureConfig(**described["config"])
        centre, axes, spread = (arrays[f"space.{name}"] for name in ("centre", "axes", "spread"))
        shift, width = arrays["space.shift"], arrays["space.width"]
        signature, answers = str(described["signature"]), bool(described["answers"])
        space = Space(config, signature, centre, axes, spread, shift, width, answers)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("saved features", f"incomplete ({error})", "the features of a saved model") from error
    surface = (len(STYLE) if config.style else 0) + (len(ANSWER) if space.answers else 0)
    shapes_fit = axes.ndim == 2 and centre.shape == axes.shape[:1] and axes.shape[1] <= config.components
    shapes_fit = shapes_fit and spread.shape == axes.shape[1:]
    if not shapes_fit or shift.shape != (surface,) or width.shape != (surface,):
        found = f"arrays of shapes {centre.shape}, {axes.shape}, {shift.shape}, {width.shape}"
        raise InputError("saved features", found, f"at most {config.components} axes and {surface} surface features")
    return space


def _pairs(examples: Examples, answers: bool) -> tuple[IntArray, IntArray, IntArray]:
    """Codes of text and query of each distinct pair, and the pair of each row; without inputs a pair is a text."""
    if not answers:
        text, row = np.unique(examples.text, return_inverse=True)
        return text, np.zeros_like(text), row
    codes = {asked: code for code, asked in reversed(list(enumerate(examples.inputs)))}
    query = np.array([codes[asked] for asked in examples.inputs], dtype=np.int64)[examples.query]
    both = query * len(examples.texts) + examples.text
    distinct, row = np.unique(both, return_inverse=True)
    return distinct % len(examples.texts), distinct // len(examples.texts), row


def _embed(encoder: Encoder | None, texts: Sequence[str]) -> FloatArray:
    if encoder is None:
        raise InputError("encoder", "none", "an encoder, or components = 0")
    return encoder.encode(texts).astype(np.float64)


def _principal(vectors: FloatArray, components: int, *, whiten: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Centre, directions over their scales, and what spread that leaves; directions without variance are left out."""
    centre = vectors.mean(axis=0)
    _, singular, rotation = np.linalg.svd(vectors - centre, full_matrices=False)
    spread = singular / np.sqrt(max(len(vectors), 1))
    kept = int(min(components, np.sum(spread > 1e-6)))
    spread = spread[:kept]
    scale = spread if whiten else np.full(kept, np.sqrt(np.mean(spread**2)) if kept else 1.0)
    axes = rotation[:kept].T / scale
    largest = np.argmax(np.abs(axes), axis=0)
    signs = np.sign(axes[largest, np.arange(kept)])
    return centre, np.ascontiguousarray(axes * np.where(signs == 0, 1.0, signs)), spread / scale


def _surface(
    config: FeatureConfig, texts: Sequence[str], asked: Sequence[str] | None, encoder: Encoder | None
) -> npt.NDArray[np.float64]:
    parts = [np.zeros((len(texts), 0))]
    if config.style:
        parts.append(style_features(texts))
    if asked is not None:
        near = np.zeros(len(texts))
        if config.components:
            near = np.sum(_embed(encoder, texts) * _embed(encoder, asked), axis=1)
        parts.append(answer_features(texts, asked, near))
    return np.hstack(parts)
