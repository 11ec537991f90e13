"""Auto: members weighed by cross-fitted predictions, so that nobody has to choose among kinds.

    R_u(t) = c + (1 + a_u) sum_j w_j shared_j(t) + (1 + b_u) sum_j w'_j own_j(u, t)

Every member is fitted on the labels of some texts (or prompts) and predicts the others; what it says for a stranger is
its shared part, what the user's labels add is its own part. Weights of all parts are learned from these predictions
(:mod:`bestfor.rewards.auto.stack`), users' factors likewise (:mod:`bestfor.rewards.auto.slopes`); members without
weight are left out, the others serve as fitted on all labels. Strangers get the shared parts, and so do users whose own
part leads away from what they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from bestfor import rng as randomness
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels
from bestfor.encoders import CachedEncoder, Encoder
from bestfor.progress import Progress
from bestfor.rewards.auto.combination import Combination, restore_combination
from bestfor.rewards.auto.crowd import restore_crowd
from bestfor.rewards.auto.learning import PATIENCE, LearnedMembers, cross_fit, learn, without_learning
from bestfor.rewards.auto.members import (
    as_nobody,
    predict_parts,
    restore_members,
    shared_mean,
    store_members,
)
from bestfor.rewards.auto.person import AutoPerson
from bestfor.rewards.kinds import KINDS
from bestfor.rewards.memory import same_rows
from bestfor.rewards.model import RewardModel
from bestfor.rewards.others import Raters
from bestfor.rewards.person import ModelPerson, Person
from bestfor.rewards.rows import share_texts
from bestfor.rewards.style_prior import PriorFeatureConfig, without_absent_prior
from bestfor.types import BoolArray, FloatArray, RewardEstimate, Served

MEMBERS = ("tastes", "pooled", "hierarchical", "similarity", "length")


class Config(BaseModel):
    """The encoder, the members and how they are weighed.

    Attributes:
        encoder: name of the sentence encoder of all members.
        members: kinds to choose from; with their defaults.
        folds: parts into which texts or prompts are dealt.
        most_rows: labels that weights are learned from; of more, those of some users are taken.
        prior: of the members that take one, ``pooled`` and ``hierarchical``; empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "all-MiniLM-L6-v2"
    members: tuple[str, ...] = Field(default=MEMBERS, min_length=1)
    folds: int = Field(default=3, ge=2, le=20)
    most_rows: int = Field(default=40_000, ge=100)
    prior: str = Field(default="")

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Store no prior where there is none: such models keep their bytes."""
        return without_absent_prior(handler(self))

    @field_validator("members")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Members are kinds of this package or plug-ins, each once, and not this one."""
        for kind in value:
            if kind == "auto" or kind not in KINDS or value.count(kind) > 1:
                raise ValueError(f"member '{kind}': other kinds than 'auto', each once ({', '.join(MEMBERS)})")
        return value


class Auto(RewardModel):
    """Several kinds, weighed by what each tells of labels that it has not seen."""

    kind = "auto"
    has_std = True
    learns = True
    hears = True
    Config = Config

    @property
    def members(self) -> dict[str, RewardModel]:
        """Fitted members that have weight, by kind."""
        return dict(zip(self._combination.kinds, self._models, strict=True))

    def served(self, user: str) -> Served:
        """Say what serves a user; everybody's reward where no member's own part has weight."""
        if not np.any(self._combination.own > 0):
            return "everybody"
        return super().served(user)

    def _fit(self, candidates: Candidates, rng: int) -> None:
        self._signature = self._require_encoder().signature
        if not isinstance(self._encoder, CachedEncoder):
            self._encoder = CachedEncoder(self._require_encoder())
        kinds = self._sensible(candidates)
        fitted: dict[str, RewardModel] = {}
        with Progress("members of auto", len(kinds), after=PATIENCE) as progress:
            for kind in kinds:
                progress.describe(f"members of auto, {kind}")
                fitted[kind] = self._make(kind).fit(candidates, rng=rng)
                progress.advance()

        def make(kind: str) -> RewardModel:
            """Make a member whose costly choices are those of the fit to all labels."""
            return self._make(kind, **fitted[kind].settled())

        crossed = cross_fit(self._sample(candidates, rng), kinds, make, self.config.folds, rng)
        if crossed is None:
            self._take(without_learning(fitted, candidates, len(self._users)), fitted)
        else:
            self._take(learn(crossed, self._users), fitted)

    def _sensible(self, candidates: Candidates) -> tuple[str, ...]:
        """Members that the labels are for: tastes carries ratings of shared texts to others."""
        kinds: tuple[str, ...] = self.config.members
        if share_texts(candidates.text) or kinds == ("tastes",) or "tastes" not in kinds:
            return kinds
        self._fit_notes.append("tastes was left out: hardly a text was rated by several people")
        return tuple(kind for kind in kinds if kind != "tastes")

    def _take(self, learned: LearnedMembers, fitted: dict[str, RewardModel]) -> None:
        """Keep what was learned, and the members that count; those abstain whose own part gets no weight."""
        self._combination, slopes, self._crowd = learned.combination, learned.slopes, learned.crowd
        self._models = [fitted[kind] for kind in learned.combination.kinds]
        self._fit_notes += learned.notes
        abstained = slopes.factor[:, 1] <= 0
        self._factor = np.where(abstained[:, None], 1.0, slopes.factor)
        self._abstained = abstained if np.any(self._combination.own > 0) else None

    def _sample(self, candidates: Candidates, rng: int) -> Candidates:
        """Labels of as many users, drawn by the seed, as stay below the most."""
        if len(candidates) <= self.config.most_rows:
            return candidates
        order = randomness.derive(rng, "users").permutation(len(candidates.users))
        counts = np.bincount(candidates.user, minlength=len(candidates.users))[order]
        kept = np.zeros(len(order), dtype=np.bool_)
        kept[order[np.cumsum(counts) <= self.config.most_rows]] = True
        if not kept.any():
            return candidates
        self._fit_notes.append(f"weights were learned from the labels of {int(kept.sum())} of {len(kept)} users")
        return candidates.take(kept[candidates.user])

    def _make(self, kind: str, **options: Any) -> RewardModel:  # noqa: ANN401 - options of any kind
        """Make an unfitted member with the encoder of all."""
        found: type[RewardModel] = KINDS.resolve(kind, "members of 'auto'")
        if not found.uses_encoder():
            return found(None, cache=self._cache, **options)
        if self.config.prior and issubclass(found.Config, PriorFeatureConfig):
            options.setdefault("prior", self.config.prior)
        given = self.config.encoder if self._encoder is None else self._encoder
        return found(None, encoder=given, cache=self._cache, **options)

    def _restored_member(self, kind: str, config: dict[str, Any]) -> RewardModel:
        """Make an unfitted member of a stored configuration."""
        if kind not in self.config.members:
            raise ValueError(f"a member '{kind}' that is not configured")
        return self._make(kind, **{name: value for name, value in config.items() if name != "encoder"})

    def text_effects(self, candidates: Candidates) -> FloatArray:
        """Variances of what each row's text has beyond its words: for all, and along tastes where they are a member."""
        text = np.full((len(candidates), 1), self._crowd.text)
        member = self._tastes
        if member is None:
            return text
        return np.hstack([text, self._crowd.tastes * member.text_effects(candidates)[:, 1:]])

    def raters(self, users: Sequence[str]) -> Raters:
        """Say how people move with a text's effects: by 1 and by their tastes."""
        codes, member = self._rater_codes(users), self._tastes
        level, known = np.zeros(len(codes)), np.zeros(len(codes))
        level[codes >= 0], known[codes >= 0] = (
            part[codes[codes >= 0]] for part in (self._crowd.level, self._crowd.known)
        )
        loading = np.ones((len(codes), 1)) if member is None else member.raters(users).loading
        return Raters(loading, level, known)

    @property
    def effects(self) -> int:
        """Number of a text's effects that others' ratings tell of."""
        member = self._tastes
        return 1 if member is None else member.raters(()).loading.shape[1]

    @property
    def rating_noise(self) -> float:
        """Variance of what is left of a rating."""
        return self._crowd.noise

    @property
    def _tastes(self) -> RewardModel | None:
        """The member with tastes, where others' ratings tell something along these."""
        return self.members.get("tastes") if self._crowd.tastes > 0 else None

    def shared_means(self, candidates: Candidates) -> list[FloatArray]:
        """Predict by each member for somebody without labels, each (n,)."""
        return [
            shared_mean(model, candidates) if model.personal else model.predict(as_nobody(candidates)).mean
            for model in self._models
        ]

    def _asked(self, candidates: Candidates) -> tuple[Candidates, FloatArray]:
        """Rows as members see them, those who abstain as strangers, and each row's factors."""
        codes = self._known_codes(candidates.users)
        known = self._known_codes(candidates.users, abstaining=True)
        factor = np.ones((len(codes), 2))
        factor[codes >= 0] = self._factor[codes[codes >= 0]]
        hidden: BoolArray = (known >= 0) & (codes < 0)
        asked = as_nobody(candidates, hidden) if hidden.any() else candidates
        return asked, factor[candidates.user]

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        asked, factor = self._asked(candidates)
        members = list(zip(self._models, self._combination.own, strict=True))
        with same_rows():
            parts = [predict_parts(model, asked, own=bool(weight > 0)) for model, weight in members]
        notes = self._new_user_notes(candidates, self._user_codes(candidates), "what all users share")
        return self._combination.estimate(parts, factor, notes)

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        asked, _ = self._asked(candidates)
        weights = self._combination.own
        queries = len(np.unique(candidates.query))
        covers = []
        for model, own, spread in zip(self._models, weights, self._combination.spread, strict=True):
            told = None
            if spread > 0:
                rows = asked if own > 0 or not model.personal else as_nobody(asked)
                told = model._covariances(rows)
            covers.append([None] * queries if told is None else told)
        found = [self._combination.covariance(each) for each in zip(*covers, strict=True)]
        known = [cover for cover in found if cover is not None]
        return known if len(known) == queries else None

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        code = int(self._known_codes((user,), abstaining=True)[0])
        persons = tuple(model.person(user, labels, history) for model in self._models)
        combination = self._for_persons()
        moved = combination.own > 0
        served = [person.served for person, own in zip(persons, moved, strict=True) if own]
        notes = tuple(
            dict.fromkeys(note for person, own in zip(persons, moved, strict=True) if own for note in person.notes)
        )
        if not served or "own" not in served:
            abstains: Served = "abstained" if "abstained" in served else self.served(user)
            return ModelPerson(user, abstains, len(labels), notes, self, history)
        factor = self._factor[code] if code >= 0 else np.ones(2)
        return AutoPerson(user, "own", len(labels), notes, self, history, combination, persons, factor)

    def _for_persons(self) -> Combination:
        """Weights for persons: where no member has parts of users, those that all share learn for one person."""
        found = self._combination
        if np.any(found.own > 0):
            return found
        learns = np.array([model.learns for model in self._models])
        return replace(found, own=np.where(learns, found.shared, 0.0))

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        members, arrays = store_members(self._models)
        state = {"members": members, "combination": self._combination.state(), "signature": self._signature}
        state["crowd"] = self._crowd.state()
        own = {"weights": self._combination.array(), "factor": self._factor, "levels": self._crowd.array()}
        return state, {**arrays, **own}

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._signature = str(state["signature"])
        self._combination = restore_combination(state["combination"], arrays["weights"])
        self._factor = arrays["factor"]
        if self._factor.shape != (len(self._users), 2):
            raise ValueError(f"factors of shape {self._factor.shape} of {len(self._users)} users")
        self._crowd = restore_crowd(state.get("crowd"), arrays.get("levels"), len(self._users))
        encoder: Encoder | None = self._encoder
        self._models = restore_members(state["members"], arrays, self._users, encoder, self._restored_member)
        if tuple(model.kind for model in self._models) != self._combination.kinds:
            raise ValueError("other members than the weights are of")
