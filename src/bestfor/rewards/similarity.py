"""Similarity: the training-free baseline, nearness of a candidate to the user's own texts.

    written:  R(y) = max_i or mean_i of cos(y, t_i) over what the user wrote before
    rated:    R(y) = sum_i (u_i - mean u) cos(y, t_i) / sum_i |u_i - mean u| over what the user rated, y itself aside

What a person says since the fit: their texts are added with weights of their own, those of the fit and those since each
counting as many as their labels; a preference is one text liked and one disliked by as much as ratings differ on
average. Where nearness is to written texts, that to liked and from disliked ones is added to it.

With ratings it is the difference between liked and disliked texts (Rocchio 1971), each weighted by how far its utility
lies from the user's own mean. A query never sees its own reference nor what was written later, and no text is near to
itself. Scale arbitrary. A user without texts of their own gets nearness to those of everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.rewards.features import check_signature, check_width, unit_rows
from bestfor.rewards.features.space import distinct_texts
from bestfor.rewards.memory import once, texts_of
from bestfor.rewards.model import RewardModel
from bestfor.rewards.person import ModelPerson, Person, TextHistory, one_users, split_estimate
from bestfor.rewards.rows import by_code, rounded
from bestfor.types import FloatArray, IntArray, RewardEstimate, Scores, Served

CHUNK = 2**14
"""Texts whose vectors are held in double precision at once."""
SAME = 1 - 1e-6
"""Cosines from here on are a text's to itself."""


class Config(BaseModel):
    """The encoder, and what counts as a user's own texts.

    Attributes:
        encoder: name of the sentence encoder.
        own: written (the user's history), rated (labelled candidates), or auto: written where histories are known.
        by: whether the nearest written text counts or the mean of all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    own: Literal["auto", "written", "rated"] = "auto"
    by: Literal["max", "mean"] = "mean"


def preference_weights(utility: FloatArray, user: IntArray) -> FloatArray:
    """Distance of each label from its user's mean, signed, over the sum of distances, (n,); 0 where all are equal.

    Args:
        utility: shape (n,).
        user: shape (n,), codes from 0.
    """
    away = utility - (np.bincount(user, utility) / np.maximum(np.bincount(user), 1))[user]
    return away / np.maximum(np.bincount(user, np.abs(away))[user], 1e-12)


def written_nearness(cosines: FloatArray, by: str) -> FloatArray:
    """Nearness to written texts: the largest or the mean of each row."""
    return np.max(cosines, axis=1) if by == "max" else np.mean(cosines, axis=1)


def rated_nearness(cosines: FloatArray, weights: FloatArray) -> FloatArray:
    """Nearness to rated texts: the weighted sum of each row, without the text itself.

    Args:
        cosines: shape (n, items).
        weights: shape (items,), positive for liked texts, negative for disliked.
    """
    others = np.where(cosines < SAME, cosines, 0.0)
    return np.sum(others * weights, axis=1)


def signed_texts(labels: Labels) -> tuple[list[str], FloatArray]:
    """Texts of sorted labels, and how much each is liked (above 0) or disliked: shape (ratings + 2 preferences,)."""
    weight = np.array([one.weight for one in labels.rated])
    utility = np.array([one.utility for one in labels.rated])
    away = utility - float(weight @ utility) / max(float(weight.sum()), 1e-12)
    unit = float(weight @ np.abs(away)) / max(float(weight.sum()), 1e-12) or 1.0
    names = [one.text for one in labels.rated]
    signed = (weight * away).tolist()
    for one in labels.preferred:
        names += [one.better, one.worse]
        signed += [unit * one.weight, -unit * one.weight]
    return names, np.array(signed)


class Similarity(RewardModel):
    """Nearness to the user's own texts."""

    kind = "similarity"
    extras = ("models",)
    scale = "arbitrary"
    learns = True
    Config = Config

    def _fit(self, candidates: Candidates, rng: int) -> None:
        history = candidates.history
        known = history is not None and any(history.texts.get(user) for user in candidates.users)
        self._written = known if self.config.own == "auto" else self.config.own == "written"
        self._seen: dict[str, int] = {}
        if self._written:
            written = {} if history is None else history.texts
            owned = [written.get(user, ()) for user in self._users]
            if history is not None:
                self._seen = {name: history.seen[name] for name in candidates.queries if name in history.seen}
            weights = np.ones(sum(map(len, owned)))
        else:
            order = np.argsort(candidates.user, kind="stable")
            user = candidates.user[order]
            texts = [candidates.texts[code] for code in candidates.text[order]]
            ends = np.searchsorted(user, np.arange(len(self._users) + 1))
            owned = [texts[start:end] for start, end in pairwise(ends)]
            weights = preference_weights(candidates.utility[order], user)
        self._ends = np.concatenate([[0], np.cumsum([len(texts) for texts in owned], dtype=np.int64)])
        names = sorted({text for texts in owned for text in texts})
        place = {name: code for code, name in enumerate(names)}
        self._items = np.array([place[text] for texts in owned for text in texts], dtype=np.int64)
        encoder = self._require_encoder()
        self._signature = encoder.signature
        self._vectors = encoder.encode(names).astype(np.float32, copy=False)
        self._weights = weights
        self._sum_up()

    def _sum_up(self) -> None:
        """Sum everybody's texts to one vector, for users who have none."""
        # by distinct texts, some at a time: else some hundred thousand take a gigabyte in double precision
        weights = np.bincount(self._items, self._weights, minlength=len(self._vectors))
        starts = range(0, max(len(weights), 1), CHUNK)
        parts = [weights[start : start + CHUNK] @ self._unit(slice(start, start + CHUNK)) for start in starts]
        self._total = np.sum(parts, axis=0) if len(parts) > 1 else parts[0]

    def _unit(self, items: IntArray | slice) -> FloatArray:
        """Vectors of some fitted texts at unit length, in double precision."""
        return unit_rows(self._vectors[items].astype(np.float64))

    def _owned(self, code: int) -> FloatArray:
        """Vectors of a fitted user's texts, kept of recent users."""
        found: FloatArray = self._recent.get(code, lambda: self._unit(self._items[self._part(code)]))
        return found

    def _part(self, code: int) -> slice:
        return slice(self._ends[code], self._ends[code + 1]) if code >= 0 else slice(0, 0)

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        codes, (vectors, text) = self._user_codes(candidates), self._distinct_vectors(candidates)
        mean = np.zeros(len(candidates))
        met = self._texts_of_new_users(candidates, codes)
        pair = codes * len(candidates.queries) + candidates.query
        for _, rows in by_code(pair):
            query, user = candidates.queries[candidates.query[rows[0]]], int(candidates.user[rows[0]])
            own = met[user][: candidates.history.seen.get(query)] if candidates.history and user in met else ()
            if len(own):
                mean[rows] = written_nearness(vectors[text[rows]] @ np.asarray(own).T, self.config.by)
            else:
                mean[rows] = self._score(vectors[text[rows]], int(codes[rows[0]]), query, candidates)
        unknown = np.where(np.isin(candidates.user, list(met)), 0, codes) if met else codes
        return RewardEstimate(mean, notes=self._new_user_notes(candidates, unknown, "nearness to everybody's texts"))

    def _texts_of_new_users(self, candidates: Candidates, codes: IntArray) -> dict[int, FloatArray]:
        """Embed what users wrote of whom the fit knew nothing: user -> unit rows, oldest first."""
        if not self._written or candidates.history is None:
            return {}
        written, encoder = candidates.history.texts, self._require_encoder()
        new = np.unique(candidates.user[codes < 0]).tolist()
        texts = {user: own for user in new if (own := written.get(candidates.users[user]))}
        return {user: unit_rows(encoder.encode(list(own)).astype(np.float64)) for user, own in texts.items()}

    def _score(self, vectors: FloatArray, code: int, query: str, candidates: Candidates) -> FloatArray:
        """Rewards of one query's candidates, shape (n,)."""
        owned, weights = self._owned(code), self._weights[self._part(code)]
        if self._written:
            seen = self._seen if candidates.history is None else candidates.history.seen
            visible = owned[: seen.get(query)]
            if len(visible):
                return written_nearness(vectors @ visible.T, self.config.by)
        elif len(owned):
            return rated_nearness(vectors @ owned.T, weights)
        others = self._total - weights @ owned
        return np.sum(vectors * others, axis=1) / max(np.linalg.norm(others), 1e-12)

    def predict_shared(self, candidates: Candidates) -> FloatArray:
        """Rewards of somebody without labels, shape (n,): nearness to everybody's texts."""
        vectors = self.unit_vectors(candidates)
        return rounded(np.sum(vectors * self._total, axis=1) / max(np.linalg.norm(self._total), 1e-12))

    def served(self, user: str) -> Served:
        """Say whether a user has texts of their own."""
        code = int(self._known_codes((user,))[0])
        own = user in self._said or (code >= 0 and self._ends[code] < self._ends[code + 1])
        return "own" if own else "everybody"

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        names, signed = signed_texts(labels)
        encoder, total = self._require_encoder(), float(np.abs(signed).sum())
        check_signature(encoder, self.config.encoder, self._signature)
        if total <= 0:
            notes = ("labels that are all alike prefer no text",)
            return ModelPerson(user, self.served(user), len(labels), notes, self, history)
        vectors, weights = unit_rows(encoder.encode(names).astype(np.float64)), signed / total
        code = int(self._known_codes((user,))[0])
        if not self._written and code >= 0:
            base, known = self._weights[self._part(code)], self._owned(code)
            share = len(base) / (len(base) + len(labels)) if np.any(base) else 0.0
            weights = np.concatenate([share * base, (1 - share) * weights])
            vectors = np.vstack([known, vectors])
        return SimilarityPerson(user, "own", len(labels), (), self, history, vectors, weights)

    def unit_vectors(self, candidates: Candidates) -> FloatArray:
        """Embeddings of every row, shape (n, dim), at unit length."""
        vectors, text = self._distinct_vectors(candidates)
        return vectors[text]

    def _distinct_vectors(self, candidates: Candidates) -> tuple[FloatArray, IntArray]:
        """Embeddings of the texts that occur, at unit length, and the place of each row's among them."""
        encoder = self._require_encoder()
        check_signature(encoder, self.config.encoder, self._signature)
        used, text = distinct_texts(candidates)

        def encode() -> FloatArray:
            return unit_rows(encoder.encode([candidates.texts[code] for code in used]).astype(np.float64))

        return once("unit vectors", (encoder, *texts_of(candidates)), encode), text

    @property
    def written(self) -> bool:
        """True where nearness is to what a user wrote, not to what they rated."""
        return self._written

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        state = {"written": self._written, "seen": self._seen, "signature": self._signature}
        arrays = {"vectors": self._vectors, "items": self._items, "ends": self._ends, "weights": self._weights}
        return state, arrays

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._written, self._signature = state["written"], str(state["signature"])
        if not isinstance(self._written, bool):
            raise TypeError(f"'written' is {self._written!r}")
        self._seen = {str(name): int(count) for name, count in state["seen"].items()}
        self._vectors, self._items = arrays["vectors"], arrays["items"]
        self._ends, self._weights = arrays["ends"], arrays["weights"]
        owned = int(self._ends[-1])
        if self._ends.shape != (len(self._users) + 1,) or {self._items.shape, self._weights.shape} != {(owned,)}:
            raise ValueError(f"{len(self._items)} items and {len(self._weights)} weights of {len(self._users)} users")
        if self._vectors.ndim != 2 or (owned and int(self._items.max()) >= len(self._vectors)):
            raise ValueError(f"vectors of shape {self._vectors.shape}")
        check_width(self._vectors, self._encoder)
        self._sum_up()


@dataclass(frozen=True)
class SimilarityPerson(Person):
    """A person with liked and disliked texts.

    Attributes:
        model: its encoder, and what the user wrote.
        history: what the user wrote before.
        vectors: shape (items, dim), liked and disliked texts.
        weights: shape (items,).
    """

    model: Similarity
    history: TextHistory
    vectors: FloatArray
    weights: FloatArray

    def score_many(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]], history: TextHistory = None
    ) -> list[Scores]:
        """Rewards of the candidates of many requests."""
        wrote = self.history if history is None else history
        candidates = one_users(self.user, prompts, texts, wrote)
        mean = rated_nearness(self.model.unit_vectors(candidates) @ self.vectors.T, self.weights)
        if self.model.written:
            known = self.model.fitted_scores(candidates)
            mean = mean + np.concatenate([one.mean for one in known])
        ends = np.searchsorted(candidates.query, np.arange(len(prompts) + 1))
        served: list[Served] = [self.served] * len(prompts)
        return split_estimate(RewardEstimate(rounded(mean)), ends, served, None)
