"""Tastes: latent tastes that users share, carried to unrated texts by a Gaussian process.

    y = m + h_0(t) + a_u'h(t) + g_u(t) + b_q + e,   a_u ~ N(0, I),  h_j ~ GP(0, v_j (K + n_j I)),  g_u ~ GP(0, w K)

Users get low-rank tastes a_u that are learned from all users together; a Gaussian process carries every taste from
rated texts to unseen ones by their nearness K (meaning and spelling), and g_u is what a user's own ratings add. It is
the choice where many people rate the same texts. n_j says how much of a taste an item's vector cannot tell; its
defaults, w and K were chosen on inner folds of real votes. Where a candidate was rated by others in the fit part, their
ratings speak directly. Variational Bayes; sources in :mod:`bestfor.rewards.tastes.factors`,
:mod:`bestfor.rewards.tastes.person` and :mod:`bestfor.rewards.features.nearness`. Users without fit labels get h_0, and
so do those whose labels say no more than it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.errors import InputError
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.rewards.features import check_signature, check_width
from bestfor.rewards.features.nearness import NARROW, ItemVectors, Nearness
from bestfor.rewards.memory import Recent, held, once
from bestfor.rewards.model import RewardModel
from bestfor.rewards.others import Raters
from bestfor.rewards.person import Person
from bestfor.rewards.rows import by_code, starts_of
from bestfor.rewards.tastes.carriers import Carrier, ExactCarrier, LandmarkCarrier
from bestfor.rewards.tastes.factors import ItemTastes, learn_item_tastes
from bestfor.rewards.tastes.items import RatedItems, embed_items, items_once, list_items
from bestfor.rewards.tastes.landmarks import Landmarks, choose_landmarks
from bestfor.rewards.tastes.learner import BaseRatings, make_person, shared_doubt
from bestfor.rewards.tastes.person import OwnPart, PersonVariances, UserRatings, fit_person, person_without_ratings
from bestfor.rewards.tastes.priors import ItemPrior
from bestfor.threads import for_size
from bestfor.types import FloatArray, IntArray, RewardEstimate

MANY = 32
"""Users of one prediction from which the kernel between all items is computed once."""
FEW = 4
"""Users of one prediction up to which each has a kernel of their own to the candidates."""
MOST_PAIRS = 2**22
"""Pairs of items whose kernel is held at once."""


@dataclass(frozen=True)
class KeptUser:
    """A user's part, the vectors of the items that it rests on, and the kernel between these."""

    part: OwnPart
    vectors: ItemVectors
    near: FloatArray

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return held(self.part) + self.vectors.nbytes + self.near.nbytes


@dataclass(frozen=True)
class KnownItems:
    """Known parts of the items of n rows.

    Attributes:
        row: shape (n,), item of each row.
        code: shape (items,), place among the fitted items, -1 where there is none.
        mean: shape (items, k + 1), of h.
        variance: shape (items, k + 1).
        find: makes the items' vectors.
        near: shape (items, fitted items), kernel to those, where it is at hand.
    """

    row: IntArray
    code: IntArray
    mean: FloatArray
    variance: FloatArray
    find: Callable[[], ItemVectors]
    near: FloatArray | None

    @cached_property
    def vectors(self) -> ItemVectors:
        """Vectors of the items."""
        return self.find()


class Config(BaseModel):
    """The encoder and the shape of the model.

    Attributes:
        encoder: name of the sentence encoder.
        tastes: number of latent tastes; those the data do not support fade out.
        length: how near two unit embeddings must be to mean the like.
        spelling: weight of shared letter groups beside embeddings in K; 0 leaves them out.
        general_noise: n_0, variance of what everybody makes of a text beyond its vector, over what the vector tells.
        taste_noise: n_j of the tastes.
        own_share: w over the noise variance, the part of it that a user's own ratings of near texts explain.
        rounds: turns of users and texts.
        landmarks: up to so many distinct texts the Gaussian process is exact; of more, so many carry it for all, and
            time grows with the number of texts.
        max_items: most distinct texts to fit.
        abstain: whether users whose labels say no more than everybody's are served by h_0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    tastes: int = Field(default=24, ge=0, le=256)
    length: float = Field(default=0.5, gt=0)
    spelling: float = Field(default=0.3, ge=0)
    general_noise: float = Field(default=0.5, gt=0)
    taste_noise: float = Field(default=2.0, gt=0)
    own_share: float = Field(default=0.2, ge=0, lt=1)
    rounds: int = Field(default=20, ge=1, le=1000)
    landmarks: int = Field(default=512, ge=1, le=8192)
    max_items: int = Field(default=100_000, ge=1)
    abstain: bool = True


class Tastes(RewardModel):
    """Low-rank tastes with a Gaussian process on texts."""

    kind = "tastes"
    has_std = True
    learns = True
    hears = True
    Config = Config
    sliced = True
    shardable = True

    def _fit(self, candidates: Candidates, rng: int) -> None:
        items = list_items(candidates)
        scale = (float(np.mean(candidates.utility)), float(np.std(candidates.utility)) or 1.0)
        priors = self.take_items(items, scale)
        target = (candidates.utility - self._centre) / self._unit
        votes = (target, candidates.user, candidates.query, items.row)
        with for_size(len(items.keys)):
            shared = learn_item_tastes(votes, priors, self.sizes(len(self._users)), rng=rng)
            ratings = UserRatings.build(len(self._users), candidates.user, items.row, candidates.query, target)
            self.take_fit(shared, ratings)
            if self.config.abstain:
                self._abstained = abstaining(ratings.owner, *self.left_out_errors())

    def check_items(self, count: int) -> None:
        """Refuse more distinct texts than can be fitted.

        Raises:
            InputError: there are more.
        """
        if count > self.config.max_items:
            expected = f"at most {self.config.max_items}; kind 'hierarchical' takes any number"
            raise InputError("reward 'tastes'", f"{count} distinct texts", expected)

    def take_items(self, items: RatedItems, scale: tuple[float, float]) -> Sequence[ItemPrior]:
        """Take over what is rated, and give the priors of h there.

        Args:
            items: distinct.
            scale: mean and standard deviation of the utilities.

        Raises:
            InputError: too many.
        """
        self.check_items(len(items.keys))
        self._centre, self._unit = scale
        self._keys, self._with_inputs = items.keys, items.with_inputs
        self._signature = self._require_encoder().signature
        self.nearness = Nearness.fit(items.texts, self.config.length, self.config.spelling)
        self._vectors = self._represent(items)
        with for_size(len(items.keys)):
            few, most = len(items.keys) <= self.config.landmarks, self.config.landmarks
            codes = None if few else choose_landmarks(self.nearness, self._vectors, most)
            return self._carry(len(items.keys), codes)

    def take_fit(self, shared: ItemTastes, ratings: UserRatings) -> None:
        """Take over what users share, and ratings of some."""
        self._shared, self._ratings, self._recent = shared, ratings, Recent(held)

    @property
    def shared(self) -> ItemTastes:
        """Give what users share."""
        return self._shared

    @property
    def vectors(self) -> FloatArray:
        """Unit vectors of the fitted items, shape (items, dim)."""
        return self._vectors.vectors

    def sizes(self, users: int) -> tuple[int, int]:
        """Choose the number of tastes of so many users, and of rounds."""
        return max(min(self.config.tastes, len(self._keys) - 1, users - 1), 0), self.config.rounds

    def _carry(self, fitted: int, landmarks: IntArray | None) -> Sequence[ItemPrior]:
        """Make what carries h from the fitted items, by landmarks where there are codes of some; gives h's priors."""
        noises = (self.config.general_noise, self.config.taste_noise)
        self._place = {key: code for code, key in enumerate(self._keys)}
        if landmarks is not None:
            found = Landmarks.of(self.nearness, self._vectors, landmarks)
            self._carrier: Carrier = LandmarkCarrier.of(found, noises)
            return self._carrier.priors
        self._carrier = ExactCarrier.of(self.nearness, self._vectors.take(np.arange(fitted)), noises)
        return self._carrier.priors

    def _known_kernel(self, users: int) -> FloatArray | None:
        """Kernel between all items, where that costs less than one for each of some users."""
        wide = len(self._keys) ** 2 > MOST_PAIRS
        return None if wide or users <= MANY else self.nearness.between(self._vectors, self._vectors)

    def left_out_errors(self) -> tuple[FloatArray, FloatArray]:
        """Leave-one-out errors of the users' ratings with and without a part of their own, each of shape (n,)."""
        ratings, users = self._ratings, len(self._ratings.ends) - 1
        known = self._known_kernel(MANY + 1)
        people = (self._part(user, known) for user in range(users))
        personal = np.concatenate([person.left_out for person in people])
        return personal, left_out_levels(ratings.y - self._shared.mean[ratings.item, 0], ratings.query)

    def variances(self) -> PersonVariances:
        """Variances of noise, level and own part, on the standard scale."""
        shared = self._shared
        return PersonVariances(shared.noise, shared.level_scale, self.config.own_share * shared.noise)

    def _fit_part(self, user: int, near: FloatArray) -> OwnPart:
        shared, variances = self._shared, self.variances()
        return fit_person(self._ratings, user, shared.mean[self._ratings.item[self._ratings.of(user)]], near, variances)

    def _part(self, user: int, known: FloatArray | None) -> OwnPart:
        """Posterior of a user's part; ``known`` is the kernel between all items, where it is at hand."""
        if known is None or user < 0:
            return self._kept_user(user).part
        rated = self._ratings.item[self._ratings.of(user)]
        return self._fit_part(user, known[np.ix_(rated, rated)])

    def _kept_user(self, user: int) -> KeptUser:
        """A user's part with the vectors that it rests on, -1 for somebody without ratings; kept of recent users."""

        def make() -> KeptUser:
            if user < 0:
                none = person_without_ratings(self._shared.mean.shape[1] - 1)
                return KeptUser(none, self._vectors.take(none.item), none.inverse)
            vectors = self._vectors.take(self._ratings.item[self._ratings.of(user)])
            near = self.nearness.between(vectors, vectors)
            return KeptUser(self._fit_part(user, near), vectors, near)

        found: KeptUser = self._recent.get(user, make)
        return found

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        code = int(self._known_codes((user,), abstaining=True)[0])
        with for_size(len(self._keys)):
            return make_person(self, user, labels, history, self._base(code))

    def _base(self, code: int) -> BaseRatings:
        """A user's ratings of the fit, none of a new user."""
        kept, part = self._kept_user(code), self._ratings.of(code) if code >= 0 else slice(0, 0)
        labels = (self._ratings.y[part], self._ratings.query[part])
        return BaseRatings(self._shared.mean[self._ratings.item[part]], kept.vectors, kept.near, *labels)

    def units(self) -> tuple[float, float]:
        """Mean and standard deviation of the fit's utilities."""
        return self._centre, self._unit

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        rated, codes = self._rated(candidates), self._user_codes(candidates)
        starts = starts_of(candidates.query)
        found, own = [], self.config.own_share * self._shared.noise
        for rows in np.split(np.arange(len(codes)), starts[1:]):
            user, item = self._kept_user(int(codes[rows[0]])), rated.row[rows]
            near, between = self._near(candidates, rated, user, rows), self._between(rated, item)
            cover = user.part.covariance(rated.mean[item, 1:], near, between, own)
            found.append(self._unit**2 * (cover + shared_doubt(user.part, rated.variance[item], item)))
        return found

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        rated, codes = self._rated(candidates), self._user_codes(candidates)
        shared, own = self._shared, self.config.own_share * self._shared.noise
        reward, wide = np.zeros(len(codes)), np.zeros(len(codes))
        present = list(by_code(codes))
        known = self._known_kernel(len(present))
        whole = len(present) > FEW and len(rated.mean) * len(self._keys) <= MOST_PAIRS
        every = self.nearness.between(rated.vectors, self._vectors) if whole else None
        with for_size(min(len(self._keys), self.config.landmarks)):
            for user, rows in present:
                h, unsure = rated.mean[rated.row[rows]], rated.variance[rated.row[rows]]
                if every is None:
                    kept = self._kept_user(user)
                    own_part, near = kept.part, self._near(candidates, rated, kept, rows)
                else:
                    own_part = self._part(user, known)
                    near = every[np.ix_(rated.row[rows], own_part.item)]
                part, left = own_part.predict(h[:, 1:], near, own)
                reward[rows] = h[:, 0] + part
                wide[rows] = left + unsure[:, 0] + np.sum(unsure[:, 1:] * (own_part.taste**2 + own_part.spread), axis=1)
        notes = self._new_user_notes(candidates, codes, "the mean of all users")
        std = self._unit * np.sqrt(wide + shared.noise - own + shared.level_scale)
        return RewardEstimate(self._centre + self._unit * reward, std, self._unit * np.sqrt(wide), notes)

    def _rated(self, candidates: Candidates) -> KnownItems:
        """Known parts of the items of some rows."""
        return self._known_items(items_once(candidates))

    def _near(self, candidates: Candidates, rated: KnownItems, user: KeptUser, rows: IntArray) -> FloatArray:
        """Kernel of some rows' items to those that a user rated."""
        if rated.near is not None:
            return rated.near[np.ix_(rated.row[rows], user.part.item)]

        def make() -> FloatArray:
            return self.nearness.between(rated.vectors.take(rated.row[rows]), user.vectors)

        return make() if len(rows) < len(candidates) else once("near", (user, rated), make)

    def _between(self, rated: KnownItems, item: IntArray) -> FloatArray:
        """Kernel between some items."""
        if rated.near is not None and np.all(rated.code[item] >= 0):
            return rated.near[np.ix_(item, rated.code[item])]
        vectors = rated.vectors.take(item)
        return self.nearness.between(vectors, vectors)

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Posterior variances of h at each row's text, shape (n, k + 1)."""
        items = list_items(candidates)
        return self._unit**2 * self.items(items)[1][items.row]

    def raters(self, users: Sequence[str]) -> Raters:
        """Say how people move with h: by 1 and their tastes; the level is known of who was asked once."""
        codes, k = self._rater_codes(users), self._shared.mean.shape[1] - 1
        loading, level, known = np.zeros((len(codes), k + 1)), np.zeros(len(codes)), np.zeros(len(codes))
        loading[:, 0] = 1.0
        kernel = self._known_kernel(len(codes))
        for row, code in enumerate(codes.tolist()):
            if code < 0:
                continue
            part, rated = self._part(code, kernel), self._ratings.of(code)
            loading[row, 1:] = part.taste
            if len(np.unique(self._ratings.query[rated])) == 1:
                level[row], left = part.level(self._shared.level_scale)
                known[row] = self._shared.level_scale - left
        return Raters(loading, self._unit * level, self._unit**2 * known)

    def predict_shared(self, candidates: Candidates) -> FloatArray:
        """Rewards of somebody without labels, shape (n,): h_0."""
        rated = self._rated(candidates)
        return np.asarray(self._centre + self._unit * rated.mean[rated.row, 0], dtype=np.float64)

    def items(self, items: RatedItems) -> tuple[FloatArray, FloatArray, ItemVectors]:
        """Mean and variance of h at each item, and its vectors.

        Items that are known have the posterior, others what their vectors predict.
        """
        found = self._known_items(items)
        return found.mean, found.variance, found.vectors

    def _known_items(self, items: RatedItems) -> KnownItems:
        return once("known items", (self, items), lambda: self._find_items(items))

    def _find_items(self, items: RatedItems) -> KnownItems:
        code = np.array([self._place.get(key, -1) for key in items.keys], dtype=np.int64)
        fresh, old = np.flatnonzero(code < 0), np.flatnonzero(code >= 0)
        mean, variance = self._shared.mean[code], self._shared.variance[code]
        near = self._kernel(items, code)
        if not len(fresh):
            return KnownItems(items.row, code, mean, variance, lambda: self._vectors.take(code), near)
        vectors = self._represent(items.take(fresh))
        if near is not None and isinstance(self._carrier, ExactCarrier):
            near[fresh] = self.nearness.between(vectors, self._vectors)
            mean[fresh], variance[fresh] = self._carrier.carry(self._shared, near[fresh])
        else:
            mean[fresh], variance[fresh] = self._carrier.predict(self._shared, vectors)
        order = np.argsort(np.concatenate([old, fresh]), kind="stable")

        def join() -> ItemVectors:
            return self._vectors.take(code[old]).join(vectors).take(order) if len(old) else vectors

        return KnownItems(items.row, code, mean, variance, join, near)

    def _kernel(self, items: RatedItems, code: IntArray) -> FloatArray | None:
        """Kernel of items to all fitted ones, rows of unknown ones not filled; None where the request is large."""
        if len(items.keys) > NARROW or self._shared.fitted < len(self._keys):
            return None
        return self._carrier.rows(code) if isinstance(self._carrier, ExactCarrier) else None

    def _represent(self, items: RatedItems) -> ItemVectors:
        encoder = self._require_encoder()
        check_signature(encoder, self.config.encoder, self._signature)
        return self.nearness.represent(items.texts, embed_items(items, encoder, self._with_inputs))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        shared, spelled = self._shared, self._vectors.spelled
        state = {
            "centre": self._centre,
            "unit": self._unit,
            "noise": shared.noise,
            "level_scale": shared.level_scale,
            "fitted": shared.fitted,
            "signature": self._signature,
            "with_inputs": self._with_inputs,
            "items": list(self._keys),
        }
        arrays = {
            "vectors": self._vectors.vectors,
            "rarity": self.nearness.rarity,
            "spelled.data": spelled.data,
            "spelled.indices": spelled.indices.astype(np.int64),
            "spelled.indptr": spelled.indptr.astype(np.int64),
            "item": shared.mean,
            "item_variance": shared.variance,
            "scale": shared.scale,
            **self._ratings.arrays(),
        }
        if isinstance(self._carrier, LandmarkCarrier):
            codes = self._carrier.landmarks.codes
            state["landmarks"], arrays["landmarks"] = len(codes), codes
        return state, arrays

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._centre, self._unit = float(state["centre"]), float(state["unit"])
        self._signature, self._keys = str(state["signature"]), tuple(str(key) for key in state["items"])
        self._with_inputs = bool(state["with_inputs"])
        self.nearness = Nearness(self.config.length, self.config.spelling, arrays["rarity"])
        count, vectors, ends = len(self._keys), arrays["vectors"], arrays["user.item.ends"]
        spelled = (arrays["spelled.data"], arrays["spelled.indices"], arrays["spelled.indptr"])
        width = max(len(arrays["rarity"]), 1)
        self._vectors = ItemVectors(vectors, sparse.csr_array(spelled, shape=(count, width)))
        self._vectors.spelled.check_format()
        scalars = (float(state["noise"]), float(state["level_scale"]), int(state["fitted"]))
        self._shared = ItemTastes(arrays["item"], arrays["item_variance"], arrays["scale"], *scalars)
        self._ratings = UserRatings(arrays["user.item"], arrays["user.query"], arrays["user.y"], ends)
        shapes = [arrays["item"].shape, arrays["item_variance"].shape, vectors.shape[:1], ends.shape]
        expected = [(count, len(arrays["scale"]))] * 2 + [(count,), (len(self._users) + 1,)]
        rows = {len(self._ratings.item), len(self._ratings.query), len(self._ratings.y), int(ends[-1])}
        known = not len(self._ratings.item) or 0 <= self._ratings.item.min() <= self._ratings.item.max() < count
        if shapes != expected or len(rows) != 1 or not 0 < self._shared.fitted <= count or not known:
            raise ValueError(f"arrays of shapes {shapes} for {count} items and {len(self._users)} users")
        check_width(vectors, self._encoder, 1 + self._with_inputs)
        self._carry(self._shared.fitted, self._stored_landmarks(state, arrays))

    def _restore_users(self, state: dict[str, Any], arrays: Arrays) -> None:
        rows = [arrays[f"user.{name}"] for name in ("item", "query", "y")]
        ends, count = arrays["user.item.ends"], len(self._keys)
        known = not len(rows[0]) or 0 <= rows[0].min() <= rows[0].max() < count
        if {len(values) for values in rows} != {int(ends[-1])} or len(ends) != len(self._users) + 1 or not known:
            raise ValueError(f"ratings of shapes {[values.shape for values in rows]} for {len(self._users)} users")
        self._ratings = UserRatings(rows[0], rows[1], rows[2], ends)

    def _stored_landmarks(self, state: dict[str, Any], arrays: Arrays) -> IntArray | None:
        """Codes of the landmarks of a stored model, None of one that is exact."""
        if "landmarks" not in state and "landmarks" not in arrays:
            return None
        codes, count = arrays["landmarks"], len(self._keys)
        if codes.shape != (int(state["landmarks"]),) or not 0 <= codes.min() <= codes.max() < count:
            raise ValueError(f"landmarks of shape {codes.shape} among {count} items")
        return codes
