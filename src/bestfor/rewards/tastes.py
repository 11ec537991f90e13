"""Tastes: what people like in texts nobody has rated yet, from the tastes that others share with them.

    y = m + h_0(t) + a_u'h(t) + g_u(t) + b_q + e,   a_u ~ N(0, I),  h_j ~ GP(0, v_j (K + n_j I)),  g_u ~ GP(0, w K)

Users get low-rank tastes a_u that are learned from all users together; a Gaussian process carries every taste from
rated texts to unseen ones by the nearness of their embeddings, and g_u is what a user's own ratings add. It is the
choice where many people rate the same texts. n_j says how much of a taste an embedding cannot tell; its defaults and w
were chosen on inner folds of real votes. Where a candidate was rated by others in the fit part, their ratings speak
directly. Variational Bayes; sources in :mod:`bestfor.rewards._tastes` and :mod:`bestfor.rewards._own`. Users without
fit labels get h_0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import linalg, sparse

from bestfor.artifacts import Arrays
from bestfor.data.examples import Examples
from bestfor.errors import InputError
from bestfor.rewards._base import RewardModel
from bestfor.rewards._features import check_signature
from bestfor.rewards._items import Items, embed_items, list_items
from bestfor.rewards._linear import Rows, apply_rows, quadratic_rows
from bestfor.rewards._own import add_own_part, own_rows
from bestfor.rewards._tastes import State, build_votes, fit_tastes, kernel
from bestfor.types import FloatArray, RewardEstimate

JITTER = 1e-6


class Config(BaseModel):
    """The encoder and the shape of the model.

    Attributes:
        encoder: name of the sentence encoder.
        tastes: number of latent tastes; those the data do not support fade out.
        length: how near two unit embeddings must be to mean the like.
        general_noise: n_0, variance of what everybody makes of a text that its embedding does not tell, over what it
            tells.
        taste_noise: n_j of the tastes.
        own_share: w over the noise variance, the part of it that a user's own ratings of near texts explain.
        rounds: turns of users and texts.
        max_items: most distinct texts to fit; time grows with their cube.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    tastes: int = Field(default=24, ge=0, le=256)
    length: float = Field(default=0.5, gt=0)
    general_noise: float = Field(default=0.5, gt=0)
    taste_noise: float = Field(default=2.0, gt=0)
    own_share: float = Field(default=0.2, ge=0, lt=1)
    rounds: int = Field(default=20, ge=1, le=1000)
    max_items: int = Field(default=3000, ge=1)


class Tastes(RewardModel):
    """Low-rank tastes with a Gaussian process on texts."""

    kind = "tastes"
    Config = Config

    def _fit(self, examples: Examples, rng: int) -> None:
        items = list_items(examples)
        if len(items.keys) > self.config.max_items:
            found = f"{len(items.keys)} distinct texts"
            expected = f"at most {self.config.max_items}; kind 'hierarchical' takes any number"
            raise InputError("reward 'tastes'", found, expected)
        self._centre = float(np.mean(examples.utility))
        self._unit = float(np.std(examples.utility)) or 1.0
        self._keys, self._with_inputs = items.keys, items.with_inputs
        self._signature = self._encoder_or_fail().signature
        self._vectors = self._embed(items)
        target = (examples.utility - self._centre) / self._unit
        rows = Rows(np.zeros((len(target), 0)), target, examples.user, examples.query)
        votes = build_votes(target, rows.user, rows.query, items.row)
        tastes = min(self.config.tastes, len(items.keys) - 1, len(self._users) - 1)
        near = kernel(self._vectors, self._vectors, self.config.length)
        state = fit_tastes(votes, self._priors(near), max(tastes, 0), self.config.rounds, rng=rng)
        self._belief, self._echo = add_own_part(rows, items.row, near, state, self.config.own_share)
        self._prepare(near)

    def _predict(self, examples: Examples) -> RewardEstimate:
        items, codes = list_items(examples), self._user_codes(examples)
        item, variance, near = self._items(items)
        belief, stranger = self._belief, codes < 0
        users, k = belief.taste.shape
        tastes = np.vstack([belief.taste, np.zeros((1, k))])
        spread = np.concatenate([belief.spread, np.eye(k)[None]])
        which = np.where(stranger, users, codes)
        own, unsure = item[items.row], variance[items.row]
        mean = own[:, 0] + apply_rows(own[:, 1:], tastes[which]) + own_rows(self._echo, near, items.row, codes)
        second = tastes[which] ** 2 + np.diagonal(spread, axis1=1, axis2=2)[which]
        wide = quadratic_rows(own[:, 1:], spread, which) + unsure[:, 0] + apply_rows(unsure[:, 1:], second)
        self._note_strangers(examples, codes, "the mean of all users")
        std = self._unit * np.sqrt(np.maximum(wide, 0) + belief.noise + belief.level_scale)
        return RewardEstimate(self._centre + self._unit * mean, std)

    def _items(self, items: Items) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean and variance of h at each item, and its kernel to the fitted items.

        Items of the fit part are as believed, others as their embeddings tell.
        """
        belief = self._belief
        place = {key: code for code, key in enumerate(self._keys)}
        known = np.array([place.get(key, -1) for key in items.keys], dtype=np.int64)
        mean, variance, vectors = belief.item[known], belief.item_variance[known], self._vectors[known]
        fresh = np.flatnonzero(known < 0)
        if len(fresh):
            vectors[fresh] = self._embed(items.take(fresh))
        near = kernel(vectors, self._vectors, self.config.length)
        for columns, factor in self._factors if len(fresh) else ():
            weights = linalg.cho_solve(factor, near[fresh].T).T
            noise = self.config.general_noise if columns.start == 0 else self.config.taste_noise
            left = np.maximum(1 + noise - np.sum(weights * near[fresh], axis=1), 0)
            mean[fresh, columns] = weights @ belief.item[:, columns]
            variance[fresh, columns] = left[:, None] * belief.scale[columns]
            variance[fresh, columns] += weights**2 @ belief.item_variance[:, columns]
        return mean, variance, near

    def _embed(self, items: Items) -> FloatArray:
        encoder = self._encoder_or_fail()
        check_signature(encoder, self.config.encoder, self._signature)
        return embed_items(items, encoder, self._with_inputs)

    def _priors(self, near: FloatArray) -> list[FloatArray]:
        noises = (self.config.general_noise, self.config.taste_noise)
        return [near + max(noise, JITTER) * np.eye(len(near)) for noise in noises]

    def _prepare(self, near: FloatArray) -> None:
        general, taste = (linalg.cho_factor(prior, lower=True) for prior in self._priors(near))
        self._factors = ((slice(0, 1), general), (slice(1, None), taste))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        belief = self._belief
        state = {
            "centre": self._centre,
            "unit": self._unit,
            "noise": belief.noise,
            "level_scale": belief.level_scale,
            "signature": self._signature,
            "with_inputs": self._with_inputs,
            "items": list(self._keys),
        }
        names = ("taste", "spread", "item", "item_variance", "scale")
        echo = {"echo.data": self._echo.data, "echo.indices": self._echo.indices, "echo.indptr": self._echo.indptr}
        return state, {"vectors": self._vectors, **echo, **{name: getattr(belief, name) for name in names}}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._centre, self._unit = float(state["centre"]), float(state["unit"])
        self._signature, self._keys = str(state["signature"]), tuple(str(key) for key in state["items"])
        self._with_inputs, self._vectors = bool(state["with_inputs"]), arrays["vectors"]
        taste, item = arrays["taste"], arrays["item"]
        users, k = taste.shape
        shapes = (arrays["spread"].shape, item.shape, arrays["item_variance"].shape, arrays["scale"].shape)
        expected = ((users, k, k), (len(self._keys), k + 1), (len(self._keys), k + 1), (k + 1,))
        if users != len(self._users) or shapes != expected or len(self._vectors) != len(self._keys):
            raise ValueError(f"shapes {shapes}, {taste.shape} and {self._vectors.shape}")
        self._belief = State(
            taste=taste,
            spread=arrays["spread"],
            level=np.zeros(0),
            level_variance=np.zeros(0),
            cross=np.zeros((0, k)),
            item=item,
            item_variance=arrays["item_variance"],
            scale=arrays["scale"],
            noise=float(state["noise"]),
            level_scale=float(state["level_scale"]),
        )
        parts = (arrays["echo.data"], arrays["echo.indices"], arrays["echo.indptr"])
        self._echo = sparse.csr_array(parts, shape=(users, len(self._keys)))
        self._echo.check_format()
        self._prepare(kernel(self._vectors, self._vectors, self.config.length))
