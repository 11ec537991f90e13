"""Give weights of style (length, capitals, digits, ...) a prior mean: what people in other conversations liked.

    g_t = x_t'(w + w_c) + ...,   w ~ N(0, T/k I),   y = level_u + g_t + noise

g_t is what everybody makes of text t of conversation c, in units in which scores of texts have variance 1; x_t are its
k style features over their usual spread. w is common to conversations. Of each conversation that taught, a file keeps
what its labels say of w once all else is summed out, a normal likelihood with precision J_c and linear term h_c, so

    w | conversations ~ N(A^-1 sum_c h_c, A^-1),   A = k/T I + sum_c J_c  (Lindley & Smith 1972),

and leaving conversations out is leaving out terms. A conversation whose texts are fitted is left out: its own labels
would count twice. Texts are known by hashes; a file holds none of them.

The prior is on unless the labels speak against it: where they are less likely under it than under a mean of 0, by more
nats than the conversations' own labels are likelier with w than without (``evidence``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from bestfor.data.ratings import text_id
from bestfor.errors import InputError
from bestfor.files import read_object
from bestfor.rewards.features import STYLE, FeatureConfig, Space
from bestfor.types import FloatArray

FORMAT = "bestfor style prior 1"
SHIPPED = Path(__file__).resolve().parent.parent / "assets" / "priors"
HASH = 16
"""Hexadecimal digits of a text's hash that are kept."""


class PriorFeatureConfig(FeatureConfig):
    """Features, and where the prior mean of the weights of style comes from.

    Attributes:
        prior: name of a shipped prior of style (``polis``), or a file's path; empty for none.
    """

    prior: str = Field(default="")

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Store no prior where there is none: such models keep their bytes."""
        return without_absent_prior(handler(self))


def without_absent_prior(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out the key of a prior that is not there."""
    return found if found.get("prior") else {key: value for key, value in found.items() if key != "prior"}


@dataclass(frozen=True)
class TaughtStyle:
    """Evidence of one conversation about w.

    Attributes:
        name: of the conversation.
        texts: hashes of its texts.
        precision: J_c, shape (len(STYLE),) * 2.
        linear: h_c, shape (len(STYLE),).
    """

    name: str
    texts: frozenset[str]
    precision: FloatArray
    linear: FloatArray


@dataclass(frozen=True)
class StylePrior:
    """A prior of the weights of style.

    Attributes:
        name: for notes.
        width: shape (len(STYLE),), spread of each feature within conversations.
        variance: T.
        evidence: nats that the conversations' labels gain by w.
        taught: the conversations.
    """

    name: str
    width: FloatArray
    variance: float
    evidence: float
    taught: tuple[TaughtStyle, ...]

    def without(self, texts: Iterable[str]) -> tuple[FloatArray, tuple[str, ...]]:
        """Posterior mean of w without the conversations that any of these texts is of.

        Returns:
            Shape (len(STYLE),), for features over :attr:`width`; and the names of who was left out.
        """
        seen = {text_hash(text) for text in texts}
        kept = [one for one in self.taught if not (one.texts & seen)]
        precision = len(STYLE) / self.variance * np.eye(len(STYLE)) + sum(one.precision for one in kept)
        linear = np.sum([np.zeros(len(STYLE)), *(one.linear for one in kept)], axis=0)
        return np.linalg.solve(precision, linear), tuple(one.name for one in self.taught if one not in kept)

    def weights(self, space: Space, texts: Iterable[str]) -> tuple[FloatArray, tuple[str, ...]]:
        """Prior mean of the weights of a fitted space's features, shape (features,), and who was left out.

        Raises:
            InputError: the space has no style features.
        """
        if not space.config.style:
            raise InputError("option 'prior'", "style = false", "style = true: the prior is one of weights of style")
        mean, left_out = self.without(texts)
        start, found = space.axes.shape[1], np.zeros(len(space.columns))
        spread = space.width[: len(STYLE)]
        found[start : start + len(STYLE)] = np.where(np.isfinite(spread), mean * spread / self.width, 0.0)
        return found, left_out


def text_hash(text: str) -> str:
    """Hash a text as a prior's file knows it."""
    return text_id(text)[:HASH]


def load_style_prior(name: str) -> StylePrior:
    """Load a prior that is shipped, by its name, or one of a file.

    Raises:
        InputError: there is none, or the file is not one.
    """
    path = SHIPPED / f"{name}.json"
    if not path.is_file():
        path = Path(name)
    shipped = ", ".join(f"'{one.stem}'" for one in sorted(SHIPPED.glob("*.json")))
    found = read_object(path, "conversations", "a prior of style", f"a file, or a shipped prior: {shipped}")
    try:
        prior = _parsed(found, path.stem)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            str(path), f"an incomplete prior ({error})", "what 'benchmarks/transfer.py --make' writes"
        ) from error
    shapes = {(one.precision.shape, one.linear.shape) for one in prior.taught}
    k = len(STYLE)
    good = found.get("format") == FORMAT and list(found.get("columns", [])) == list(STYLE) and prior.width.shape == (k,)
    if not good or shapes != {((k, k), (k,))} or not prior.variance > 0 or not np.all(prior.width > 0):
        raise InputError(str(path), "a prior of other features", f"'{FORMAT}' of {k} features: {', '.join(STYLE)}")
    return prior


def _parsed(found: dict[str, Any], name: str) -> StylePrior:
    taught = tuple(
        TaughtStyle(
            str(one["name"]),
            frozenset(map(str, one["texts"])),
            np.array(one["precision"], dtype=np.float64),
            np.array(one["linear"], dtype=np.float64),
        )
        for one in found["conversations"]
    )
    numbers = np.array(found["width"], dtype=np.float64)
    return StylePrior(name, numbers, float(found["variance"]), float(found["evidence"]), taught)
