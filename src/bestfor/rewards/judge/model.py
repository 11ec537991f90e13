"""Reward by a judge: a language model behind an OpenAI-compatible server scores texts as the user would, by a persona.

    written once per user at fit:   persona p_u and rubrics r_u1 .. r_uK, from what u wrote and liked
    pointwise:     s(y | p, r) = sum_k k P(k | p, r, x, y) over the score tokens k = low .. high (Liu et al. 2023)
    tournament:    s(y | p, r) = Bradley-Terry strength of y among the query's candidates (``tournament.py``)
    R(y) = (1 - w) mean_k s(y | p_u, r_uk) + w sum_v c_uv s(y | p_v, r_v1),   sum_v c_uv = 1

Personas are written from interactions after SynthesizeMe (Ryan et al. 2025, arXiv:2506.05598), without the reasoning
that it verifies first. Averaging K rubrics of a user and mixing in those of the nearest users v (w = ``share``, c in
proportion to the cosine of mean embeddings) is after the test-time user-based scaling of P-GenRM (Zhang et al. 2026,
arXiv:2602.12116), which trains its judge and finds neighbours among learned prototypes. Scale arbitrary.

**What a persona is written from.** The latest of the user's texts that every test query of theirs sees
(:meth:`bestfor.data.candidates.History.before_tests`: none later than a test query, and no answer to one), and the best
and worst labelled candidates, which are of the fit part. A query that comes before a text that the persona rests on (a
fit query, say, whose own reference is such a text) is judged by the general rubric, and ``notes`` count it. Users who
have a history and no fit labels get their persona at the first prediction, from such texts alone.

**Missing.** A candidate about which the server gives no answer, or one that is no score, under any of the rubrics that
count, has no reward: its mean is NaN, never a number that nobody gave.

**Kept.** ``answers.jsonl`` in the cache holds all answers, so that none is paid for twice; ``personas/`` beside the
saved model holds a file per user (:mod:`bestfor.rewards.judge.personas`), and what a person edits there counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from bestfor import artifacts
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates
from bestfor.encoders import Encoder
from bestfor.endpoint import Chat, Endpoint, EndpointTable, Usage
from bestfor.endpoint.local import check_local, identity_of
from bestfor.rewards.judge.author import MaterialLimits, PersonaWriter, material, of_history
from bestfor.rewards.judge.neighbours import nearest_users, user_vectors
from bestfor.rewards.judge.personas import (
    FOLDER,
    Persona,
    Profile,
    pack_profiles,
    read_edited,
    unpack_profiles,
    write_files,
)
from bestfor.rewards.judge.questions import CandidateScorer, RequestSettings, queue_requests
from bestfor.rewards.model import RewardModel
from bestfor.rewards.options import parse_options
from bestfor.types import RewardEstimate, Served

ANSWERS = "answers.jsonl"
"""The file of answers in the cache."""


class Config(BaseModel):
    """Settings of a judge: the model, its questions, and what it learns of users.

    Attributes:
        model: the name under which the server knows the model.
        mode: whether each candidate is scored on its own, or pairs are compared (for models that only compare).
        low: the lowest score, 0 or more.
        high: the highest score, above ``low``, at most 99.
        rounds: of a tournament, 2 or more; None plays one more than it takes to find a leader. A round of n candidates
            is n / 2 pairs, so n questions: each pair is asked about in both orders.
        logprobs: whether to take the expectation over score tokens where the server gives their probabilities.
        rubrics: how many are written per user; their scores are averaged.
        neighbours: how many similar users' rubrics are mixed in; 0 needs no encoder.
        share: weight of the neighbours together.
        encoder: name of the sentence encoder that finds them.
        items: how many of the user's texts are shown when the persona is written.
        rated: how many of the best, and of the worst, labelled candidates are shown then.
        shown_tokens: the most tokens of all these.
        persona_tokens: the longest answer then.
        temperature: at which a user's second and further rubrics are written; the first is at 0.
        max_tokens: the longest answer to a question of which text is how good.
        identity: names what judges, for the record and the answers that are kept; the server's address by default.
        endpoint: the server, how it is treated, and what it may cost.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    mode: Literal["pointwise", "tournament"] = "pointwise"
    low: int = Field(default=1, ge=0)
    high: int = Field(default=5, le=99, validate_default=True)
    rounds: int | None = Field(default=None, ge=2)
    logprobs: bool = True
    rubrics: int = Field(default=1, ge=1, le=32)
    neighbours: int = Field(default=0, ge=0)
    share: float = Field(default=0.3, gt=0, lt=1)
    encoder: str = "all-MiniLM-L6-v2"
    items: int = Field(default=20, ge=0)
    rated: int = Field(default=3, ge=0)
    shown_tokens: int = Field(default=3000, ge=100)
    persona_tokens: int = Field(default=800, ge=1)
    temperature: float = Field(default=0.7, gt=0, le=2)
    max_tokens: int = Field(default=16, ge=1)
    identity: str = ""
    endpoint: EndpointTable = EndpointTable()

    @field_validator("high")
    @classmethod
    def _above_low(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("low", -1):
            raise ValueError(f"a score above low = {info.data['low']}")
        return value

    @field_validator("rounds")
    @classmethod
    def _of_a_tournament(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("mode") == "pointwise":
            raise ValueError('no rounds with mode = "pointwise"')
        return value


class Judge(RewardModel):
    """A language model that scores candidates as the user would."""

    kind = "judge"
    extras = ("endpoint",)
    scale = "arbitrary"
    Config = Config
    sliced = True
    partial = True

    _connection: Chat | None = None
    _earlier = Usage()
    _spent = Usage()
    _unanswered = 0

    @property
    def alone(self) -> bool:
        """True where candidates are scored one by one, not compared with each other."""
        return self.config.mode == "pointwise"

    @property
    def usage(self) -> Usage:
        """The usage of this object so far, failed attempts among it; answers that were kept cost nothing."""
        return self._spent + (Usage() if self._connection is None else self._connection.usage)

    @property
    def personas(self) -> Mapping[str, Persona]:
        """The personas and rubrics by user, as they will be used."""
        return {user: one.persona for user, one in sorted(self._profiles.items()) if one.persona is not None}

    def charge(self, earlier: Usage) -> None:
        """Count what earlier calls have spent against the budget; before the first question."""
        self._earlier = earlier

    @property
    def unanswered(self) -> int:
        """Number of questions without an answer at the last prediction: a later one asks them again."""
        return self._unanswered

    def close(self) -> None:
        """Close the connections; a later question opens them again."""
        if self._connection is not None:
            self._connection.close()

    def reach(self, endpoint: Mapping[str, Any]) -> Self:
        """Ask this server from now on: a model on disk does not hold the credentials of its server's address.

        Raises:
            InputError: an unknown key, or a value out of range.
        """
        self.close()
        self._spent, self._connection = self.usage, None
        self.config = self.config.model_copy(
            update={"endpoint": parse_options(EndpointTable, self.kind, dict(endpoint))}
        )
        return self

    def save(self, folder: Path) -> str:
        """Store the fitted model and a file per user; what was edited in files that lie there is taken over first."""
        folder = Path(folder)
        if self._fitted and self._loaded_for is None:
            self._take_over(read_edited(folder / FOLDER))
        stored = super().save(folder)
        write_files(folder / FOLDER, self.personas)
        return stored

    @classmethod
    def load(
        cls, folder: Path, *, encoder: Encoder | None = None, cache: Path | None = None, user: str | None = None
    ) -> Self:
        """Read a model that :meth:`save` stored, and what was edited since; of one user, theirs and the neighbours'."""
        model = super().load(folder, encoder=encoder, cache=cache, user=user)
        others = None
        if user is not None:
            names = [name for name, _ in model._profiles.get(user, Profile()).neighbours]
            stored = artifacts.read(Path(folder), users=names)
            if stored.digest != model._digest:
                # a writer has replaced the model between the two reads
                return cls.load(folder, encoder=encoder, cache=cache, user=user)
            model._profiles |= unpack_profiles(stored.arrays, stored.users)
            others = [user, *names]
        model._take_over(read_edited(Path(folder) / FOLDER, others))
        return model

    def _take_over(self, edited: Mapping[str, Persona]) -> None:
        for user, persona in edited.items():
            known = self._profiles.get(user, Profile())
            self._profiles[user] = Profile(persona, known.rests_on, known.neighbours)

    def ready(self) -> None:
        """Check that the server's key, or a local model, is there; no question is sent."""
        check_local(self.config.endpoint.base_url)
        Endpoint(self.config.endpoint.config(f"reward '{self.kind}', endpoint")).close()

    def served(self, user: str) -> Served:
        """Say whether a persona of the user's own is judged by, or the general rubric."""
        known = self._profiles.get(user)
        return "own" if known is not None and known.persona is not None else "everybody"

    def _fit(self, candidates: Candidates, rng: int) -> None:
        config = self.config
        self._seed, self._signature = rng, ""
        known, author = material(candidates, self._limits), self._author()
        personas = author.write(self._users, known)
        neighbours: list[list[tuple[int, float]]] = [[] for _ in self._users]
        if config.neighbours:
            encoder = self._require_encoder()
            self._signature = encoder.signature
            able = np.array([one is not None for one in personas])
            neighbours = nearest_users(user_vectors([one.texts for one in known], encoder), able, config.neighbours)
        self._profiles = {
            user: Profile(persona, one.rests_on, tuple((self._users[code], share) for code, share in near))
            for user, persona, one, near in zip(self._users, personas, known, neighbours, strict=True)
        }
        self._fit_notes += author.notes(known)

    def _predict(self, candidates: Candidates) -> RewardEstimate:
        fresh, written = self._profiles_of_strangers(candidates)
        profiles = {**self._profiles, **fresh}
        codes = self._user_codes(candidates)
        served = [user in profiles and profiles[user].persona is not None for user in candidates.users]
        unknown = np.where(np.array(served)[candidates.user], 0, codes)
        notes = [*written, *self._new_user_notes(candidates, unknown, "the general rubric")]
        queue = queue_requests(candidates, profiles, self.config.share)
        scorer = CandidateScorer(self._chat(), self._request_settings())
        mean = np.zeros(len(candidates))
        for (rows, text), rewards in zip(queue.places, scorer.score(queue.queries), strict=True):
            mean[rows] = rewards[text]
        self._unanswered = scorer.counts.refused
        missing = int(np.isnan(mean).sum())
        notes += queue.notes
        if missing:
            notes.append(f"{missing} of {len(mean)} candidates have no reward from {self.config.model}")
        notes += scorer.counts.notes(self.config.model, self.config.logprobs)
        notes.append(f"judged by {self.config.model}: {scorer.counts.cost_note(self._chat().server.budget)}")
        return RewardEstimate(mean, notes=tuple(notes))

    def _profiles_of_strangers(self, candidates: Candidates) -> tuple[dict[str, Profile], list[str]]:
        """Write profiles of users with a history and no fit labels, the same each time, and notes about the writing."""
        history = candidates.history
        present = [candidates.users[code] for code in np.unique(candidates.user)]
        fresh = [user for user in present if user not in self._profiles] if history is not None else []
        known = [] if history is None else [of_history(history, user, self._limits) for user in fresh]
        written = [(user, one) for user, one in zip(fresh, known, strict=True) if one]
        if not written:
            return {}, []
        author = self._author()
        personas = author.write([user for user, _ in written], [one for _, one in written])
        notes = [f"users without fit labels: {note}" for note in author.notes([one for _, one in written])]
        return {user: Profile(own, one.rests_on) for (user, one), own in zip(written, personas, strict=True)}, notes

    @property
    def _limits(self) -> MaterialLimits:
        return MaterialLimits(self.config.items, self.config.rated, self.config.shown_tokens)

    def _author(self) -> PersonaWriter:
        config = self.config
        return PersonaWriter(
            self._chat(), self._request_settings(), config.rubrics, config.persona_tokens, config.temperature
        )

    def _chat(self) -> Chat:
        if self._connection is None:
            cache = None if self._cache is None else Path(self._cache) / ANSWERS
            self._connection = Chat(self.config.endpoint.config(f"reward '{self.kind}', endpoint"), cache)
            self._connection.charge(self._earlier + self._spent)
        return self._connection

    def _request_settings(self) -> RequestSettings:
        config = self.config
        identity = config.identity or identity_of(config.endpoint.base_url)
        rounds = 0 if config.mode == "pointwise" else config.rounds
        return RequestSettings(
            config.model,
            identity,
            logprobs=config.logprobs,
            max_tokens=config.max_tokens,
            extra_body=config.endpoint.extra_body,
            scale=(config.low, config.high),
            rounds=rounds,
            seed=self._seed,
        )

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return {"seed": self._seed, "signature": self._signature}, pack_profiles(self._profiles, self._users)

    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None:
        self._seed, self._signature = int(state["seed"]), state["signature"]
        if not isinstance(self._signature, str):
            raise TypeError(f"'signature' is {self._signature!r}")
        self._profiles = unpack_profiles(arrays, self._users)
