"""Base class of reward models: configuration, checks, canonical order of rows, rounding, and the folder on disk.

A kind implements ``_fit`` and ``_predict``, and ``_state`` and ``_restore`` for its folder. A fitted model is
immutable: a kind that learns from further labels implements ``_person``, which makes a
:class:`bestfor.rewards.person.Person` of the model and one user's labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel

from bestfor import artifacts
from bestfor.artifacts import Arrays
from bestfor.data.candidates import Candidates, History
from bestfor.data.labels import Labels
from bestfor.data.others import code_others
from bestfor.encoders import Encoder, load_encoder, packages
from bestfor.encoders.reading import reading_notes
from bestfor.errors import BestforError, InputError
from bestfor.rewards.abstain import abstain_note
from bestfor.rewards.check import check_class, check_estimate, refuse_nan
from bestfor.rewards.features import Design, FeatureConfig, Space, check_signature, fit_space, restore_space
from bestfor.rewards.hearing import Hearing
from bestfor.rewards.kinds import KINDS, is_kind
from bestfor.rewards.memory import Recent, held, once, same_rows, same_texts, texts_of
from bestfor.rewards.options import NoOptions, parse_options
from bestfor.rewards.person import ModelPerson, Person, check_said, sort_labels, split_estimate
from bestfor.rewards.rows import canonical, rounded, starts_of
from bestfor.rewards.said import FittedRows, pack_said, scores_of_people, split_said, unpack_said, without_queries
from bestfor.rewards.sharded import UserShards
from bestfor.types import BoolArray, FloatArray, IntArray, RewardEstimate, Scale, Scores, Served

MANY_USERS = 100_000
"""Users from whom on a saved model's lie in shards."""


class RewardModel(Hearing, ABC):
    """A model that learns from measured utilities and predicts rewards.

    Args:
        config: the model's configuration; options given by name take its place or refine it.
        encoder: an encoder object, or the name of one; None takes the configuration's.
        cache: folder for embeddings, None for memory only.
        **options: fields of the configuration, and of its features.

    Raises:
        InputError: an unknown option (the message names the nearest known one) or a value out of range.
    """

    kind: ClassVar[str]
    """The name by which it is asked for; ``module:Class`` where a class says none."""

    scale: Scale = "utility"
    """What rewards are measured in; where the configuration decides it, the model's own says so."""

    alone = True
    """Whether a candidate is judged by itself, so that its reward does not depend on the query's other candidates."""

    has_std = False
    """Whether every reward has a standard deviation; where the configuration decides it, the model's own says so."""

    learns: ClassVar[bool] = False
    """Whether :meth:`person` learns from further labels without another fit."""

    personal: ClassVar[bool] = True
    """Whether users with fit labels have a part of their own."""

    baseline: ClassVar[bool] = False
    """Whether it learns nothing and is there to be compared with: reports draw it in grey."""

    extras: ClassVar[tuple[str, ...]] = ()
    """Optional parts of this package without which it cannot be fitted, beside what its encoder needs."""

    Config: ClassVar[type[BaseModel]] = NoOptions
    sliced: ClassVar[bool] = False
    """Whether every stored array with rows of users is named ``user.*``, so that one user is read without the rest."""

    shardable: ClassVar[bool] = False
    """Whether users of a saved model may lie in shards: ``sliced``, and no files beside the weights."""

    partial: ClassVar[bool] = False
    """Whether a candidate may have no reward: the mean is NaN there, and ``notes`` say of how many and why."""

    _folder: Path | None = None
    """Where the model was loaded from, for kinds that keep files beside their weights."""

    _digest: str = ""
    """Content hash of the model that was loaded."""

    _shards: UserShards | None = None
    """Where the rows of users are, of a model that was loaded for everybody and whose users lie in shards."""

    _signature: str = ""
    """Content hash of the encoder whose vectors are kept beside the features."""

    def __init_subclass__(cls, **how: Any) -> None:  # noqa: ANN401 - whatever other bases take
        super().__init_subclass__(**how)
        if ":" in str(getattr(cls, "kind", ":")):
            cls.kind = f"{cls.__module__}:{cls.__qualname__}"

    def __new__(cls, *given: object, **options: object) -> Self:
        """Check the class before Python's own words about abstract methods.

        Raises:
            InputError: a method is missing, or an attribute is of another type than it has to be.
        """
        check_class(cls)
        return super().__new__(cls)

    def __init__(
        self,
        config: BaseModel | None = None,
        *,
        encoder: Encoder | str | None = None,
        cache: Path | None = None,
        **options: object,
    ) -> None:
        if encoder is not None and self.uses_encoder():
            options["encoder"] = encoder if isinstance(encoder, str) else encoder.name
        # Tables within a configuration stay objects: written out, an address loses its credentials.
        base = {} if config is None else {name: getattr(config, name) for name in type(config).model_fields}
        self.config: Any = parse_options(self.Config, self.kind, {**base, **options})
        self._encoder = None if isinstance(encoder, str) else encoder
        self._cache = cache
        self._space: Space | None = None
        self._users: tuple[str, ...] = ()
        self._codes: dict[str, int] | None = None
        self._abstained: BoolArray | None = None
        self._loaded_for: frozenset[str] | None = None
        self._fitted = False
        self._fit_notes: list[str] = []
        self._said: dict[str, Labels] = {}
        self._recent: Recent[Any] = Recent(held)

    @classmethod
    def uses_features(cls) -> bool:
        """True where the model sees a text as a row of features."""
        return issubclass(cls.Config, FeatureConfig)

    @classmethod
    def uses_encoder(cls) -> bool:
        """True where the model may need a sentence encoder."""
        return "encoder" in cls.Config.model_fields

    @property
    def notes(self) -> list[str]:
        """Plain sentences about the fit; those about a prediction come with it."""
        return list(self._fit_notes)

    @property
    def abstained(self) -> tuple[str, ...]:
        """Users with fit labels who are served as if they had none, since their labels say no more than everybody's."""
        if self._shards is not None:
            return self._shards.abstained()
        if self._abstained is None:
            return ()
        return tuple(self._users[code] for code in np.flatnonzero(self._abstained))

    def fit(self, candidates: Candidates, *, rng: int) -> Self:
        """Learn from rows with utilities; their order changes nothing.

        Args:
            candidates: n labelled rows. Where they say what people said (``said``), kinds that learn make each of these
                people from that, and the rows teach what all share.
            rng: the seed of everything random.

        Raises:
            InputError: there are no rows, or a utility is NaN or infinite.
        """
        self._check_made()
        if len(candidates) == 0:
            raise InputError(f"fit of '{self.kind}'", "no candidates", "labelled candidates")
        self._check_labels(candidates, "fit")
        self._said, self._recent = {}, Recent(held)
        if candidates.said:
            candidates, self._said = split_said(candidates, personal=self.learns and self.personal)
            if len(candidates) == 0:
                raise InputError(f"fit of '{self.kind}'", "weak labels only", "some that weigh more")
        ordered = canonical(candidates)
        with same_texts():
            self.prepare(ordered)
            self._fit(ordered, rng)
        self._fit_notes += abstain_note(len(self.abstained), len(self._users))
        self._fitted = True
        return self

    def prepare(self, ordered: Candidates) -> None:
        """Forget another fit, and learn what the rows' texts look like."""
        self._fit_notes = []
        self._users, self._codes, self._loaded_for, self._abstained = ordered.users, None, None, None
        if self.uses_features():
            config = FeatureConfig(**{name: getattr(self.config, name) for name in FeatureConfig.model_fields})
            encoder = self._load_encoder()
            self._space = fit_space(config, ordered, encoder)
            self._fit_notes += reading_notes(encoder, (*ordered.texts, *ordered.inputs))

    def ready(self) -> None:
        """Check, before hours of sampling, that a fit's checkpoint, device and key are here; loads no weights.

        Raises:
            InputError: it is not here.
            MissingExtraError: nor is what the kind is made of.
        """
        if self._encoder is None and self.uses_encoder() and getattr(self.config, "components", 1) > 0:
            packages.check_here(self.config.encoder)

    def predict(self, candidates: Candidates) -> RewardEstimate:
        """Rewards of n rows, rounded to 9 significant digits; utilities in the rows are not looked at.

        Finite, but for kinds that are ``partial``: their mean is NaN where there is no reward. Where the rows say what
        others said of them (``others``), kinds that hear it condition on it.

        Raises:
            InputError: the kind gives something else than it promises.
        """
        self._check_made()
        if not self._fitted:
            raise BestforError(f"'{self.kind}' predicts after fit or load")
        if len(candidates) == 0:
            return RewardEstimate(np.zeros(0), None)
        users = self._asking(candidates)
        self._check_loaded_for(users)
        model = self._among(users if candidates.others is None else (*users, *candidates.others.users))
        return self._finished(model._heard(candidates, model.fitted_rewards(candidates)), len(candidates))

    def fitted_rewards(self, candidates: Candidates) -> RewardEstimate:
        """Rewards of n rows by what the fit learned alone, as they are before rounding."""
        # members of a model must not hear what the model itself hears
        candidates = candidates if candidates.others is None else replace(candidates, others=None)
        return self._predict_people(candidates) if self._said else self._predict(candidates)

    def _asking(self, candidates: Candidates) -> tuple[str, ...]:
        used = [0] if len(candidates.users) == 1 else np.unique(candidates.user)
        return tuple(candidates.users[code] for code in used)

    def _among(self, users: Iterable[str]) -> Self:
        """Give the model with the rows of some users: itself, but where they lie in shards."""
        return self if self._shards is None else self._shards.model_of(self, users)

    def _finished(self, estimate: RewardEstimate, count: int) -> RewardEstimate:
        """Check and round what was predicted."""
        check_estimate(self, estimate, count)
        given = (estimate.mean, estimate.std, estimate.std_mean)
        found = iter(rounded(np.array([values for values in given if values is not None])))
        mean, std, std_mean = (None if values is None else next(found) for values in given)
        return RewardEstimate(mean, std, std_mean, tuple(estimate.notes))  # pyright: ignore[reportArgumentType]

    def score(
        self,
        user: str,
        prompt: str,
        texts: Sequence[str],
        history: History | Sequence[str] | None = None,
        others: Mapping[str, Labels] | None = None,
    ) -> Scores:
        """Rewards of the candidates of one request.

        Args:
            user: who asks; somebody without fit labels is served as such.
            prompt: what is asked; empty where people rate bare texts.
            texts: n candidates, at least one.
            history: what the user wrote before, oldest first, where the model looks at it.
            others: what other people said of these very candidates, by who said it, in the units of the fit; kinds
                that hear it (``hears``) condition on the ratings for this answer alone.

        Raises:
            InputError: no texts, the model was loaded for somebody else, or labels of the user among the others.
        """
        candidates = Candidates.of(user, prompt, texts, history=history)
        if others:
            candidates = replace(candidates, others=code_others([(user, prompt, texts)], [others]))
        return self._scores(candidates, 1)[0]

    def score_many(
        self,
        users: Sequence[str],
        prompts: Sequence[str],
        texts: Sequence[Sequence[str]],
        history: History | None = None,
        others: Sequence[Mapping[str, Labels] | None] | None = None,
    ) -> list[Scores]:
        """Rewards of the candidates of many requests, as :meth:`score` gives them one by one.

        Args:
            users: who asks, one for each request.
            prompts: what is asked, likewise.
            texts: the candidates of each request.
            history: what the users wrote before.
            others: what other people said of each request's candidates.
        """
        candidates = Candidates.of(users, prompts, texts, history=history)
        if others is not None:
            told = code_others(list(zip(users, prompts, texts, strict=True)), others)
            candidates = replace(candidates, others=told)
        return self._scores(candidates, len(users))

    def person(self, user: str, labels: Labels, history: Sequence[str] | None = None) -> Person:
        """Make the user's reward from this model and everything that the user said since the fit.

        Nothing here changes. The order and the portions in which labels came do not matter; those for one prompt share
        a level. A label that is there twice counts twice. A kind that does not learn gives itself, and ``notes`` of the
        person say so.

        Args:
            user: whose labels they are; somebody without fit labels begins as such.
            labels: all of them, in the units that the model was fitted on.
            history: what the user wrote before, oldest first, where the model looks at it.

        Raises:
            InputError: a utility that is not finite, a weight that is not above 0, or a text preferred to itself.
            BestforError: before fit or load.
        """
        if not self._fitted:
            raise BestforError(f"'{self.kind}' makes persons after fit or load")
        self._check_loaded_for((user,))
        if self._shards is not None:
            return self._among((user,)).person(user, labels, history)
        check_said(labels, self.kind)
        told = labels + self._said.get(user, Labels())
        if self.learns and len(told):
            return self._person(user, sort_labels(told), history)
        notes = (f"'{self.kind}' does not learn from labels after its fit",) if len(labels) else ()
        return ModelPerson(user, self.served(user), len(labels), notes, self, history)

    def settled(self) -> dict[str, Any]:
        """Options that the fit chose at a cost; a fit to other parts of the same labels may take them as given."""
        return {}

    def served(self, user: str) -> Served:
        """Say what serves a user: the own part, what all share, or the latter since own labels say no more."""
        if self._shards is not None:
            return self._among((user,)).served(user)
        code = int(self._known_codes((user,), abstaining=True)[0]) if self.personal else -1
        if code < 0:
            return "own" if user in self._said else "everybody"
        return "abstained" if self._abstained is not None and self._abstained[code] else "own"

    def _person(self, user: str, labels: Labels, history: Sequence[str] | None) -> Person:
        """Make the person of some labels; they are checked and sorted, and there is at least one."""
        raise NotImplementedError(f"'{self.kind}' says that it learns")

    def _covariances(self, candidates: Candidates) -> list[FloatArray] | None:
        """Posterior covariance of the means of every query's candidates, in the order of the rows; None without one."""
        del candidates

    def _scores(self, candidates: Candidates, requests: int) -> list[Scores]:
        """Score requests, those of people who said something at the fit by their persons."""
        empty = np.flatnonzero(np.bincount(candidates.query, minlength=requests) == 0)
        if len(empty):
            raise InputError(f"score, request {int(empty[0])}", "no texts", "at least one")
        self._check_made()
        if not self._fitted:
            raise BestforError(f"'{self.kind}' predicts after fit or load")
        heard = candidates.others
        alone = candidates if heard is None else replace(candidates, others=None)
        if self._shards is not None:
            told = () if heard is None else heard.users
            return self._among((*self._asking(candidates), *told))._scores(candidates, requests)
        people = scores_of_people(alone, self._said, self._told)
        others = self.fitted_scores(without_queries(alone, people))
        found = [people[query][1] if query in people else others.pop(0) for query in range(requests)]
        return found if heard is None else self.heard_scores(found, candidates, heard)

    def fitted_scores(self, candidates: Candidates) -> list[Scores]:
        """Score each query's candidates by the fit's rows alone; rows of one query lie together."""
        if not len(candidates):
            return []
        self._check_rows(candidates)
        starts = starts_of(candidates.query)
        with same_rows():
            estimate = self._finished(self._predict(candidates), len(candidates))
            covariances = self._covariances(candidates)
        served = [self.served(user) for user in candidates.users]
        users, ends = candidates.user[starts], np.append(starts, len(candidates))
        return split_estimate(estimate, ends, [served[code] for code in users], covariances)

    def _told(self, user: str, history: Sequence[str] | None) -> Person:
        """Make the person of what somebody said at the fit, without what they said since."""
        self._check_loaded_for((user,))
        person = self._person(user, self._said[user], history)
        fitted = FittedRows(self.fitted_scores, self.heard_scores)
        return replace(person, model=fitted) if isinstance(person, ModelPerson) else person

    def _predict_people(self, candidates: Candidates) -> RewardEstimate:
        """Predict, rows of people who said something at the fit by their persons."""
        people = scores_of_people(candidates, self._said, self._told)
        if not people:
            return self._predict(candidates)
        rest = np.flatnonzero(~np.isin(candidates.query, list(people)))
        others = self._predict(candidates.take(rest)) if len(rest) else RewardEstimate(np.zeros(0))
        every = [*([(rest, others)] if len(rest) else []), *people.values()]

        def joined(name: str) -> FloatArray | None:
            values = [getattr(one, name) for _, one in every]
            if any(one is None for one in values):
                return None
            found = np.empty(len(candidates))
            found[np.concatenate([rows for rows, _ in every])] = np.concatenate(values)
            return found

        mean = joined("mean")
        assert mean is not None
        return RewardEstimate(mean, joined("std"), joined("std_mean"), others.notes)

    def save(self, folder: Path) -> str:
        """Store the fitted model, from 100,000 users on in shards where the kind can; returns its content hash."""
        self._check_whole()
        write = artifacts.write_sharded if self.shardable and len(self._users) >= MANY_USERS else artifacts.write
        return write(Path(folder), *self.stored(), self._users)

    def stored(self) -> tuple[dict[str, Any], Arrays]:
        """JSON values and arrays of the fitted model, as :meth:`save` stores them."""
        state, arrays = self._state()
        if self._abstained is not None:
            arrays = {**arrays, "user.abstained": self._abstained.astype(np.uint8)}
        config: dict[str, Any] = {
            "kind": KINDS.name_of(type(self)),
            "config": self.config.model_dump(mode="json"),
            "notes": self._fit_notes,
            "state": state,
        }
        if self._said:
            config["said"] = len(self._said)
            arrays = {**arrays, "said": pack_said(self._said)}
        if self._space is not None:
            config["space"] = self._space.describe()
            arrays = {**arrays, **self._space.arrays()}
        return config, arrays

    def restored(self, stored: artifacts.Artifact, encoder: Encoder | None) -> Self:
        """Make this unfitted model what :meth:`stored` gave.

        Raises:
            ValueError: arrays or values that are not a model's; KeyError, TypeError and the like likewise.
        """
        self._restore_stored(stored, encoder)
        self._fitted = True
        return self

    @classmethod
    def load(
        cls, folder: Path, *, encoder: Encoder | None = None, cache: Path | None = None, user: str | None = None
    ) -> Self:
        """Read a model that :meth:`save` stored.

        Args:
            folder: the model's folder.
            encoder: None loads the configuration's by name when it is needed.
            cache: folder for embeddings, None for memory only.
            user: who will be served, None for everybody: where users lie in shards, the rows of each are then read when
                they are asked for. Of a kind that is ``sliced`` nobody else's rows are read, so
                that one user out of a million costs no more than one out of ten; the model then predicts for this user
                alone. Somebody without fit labels is served as such.

        Raises:
            InputError: the folder is damaged, holds another kind of model, or its encoder is not the one here.
        """
        return artifacts.retrying(lambda: cls._load(folder, encoder, cache, user))

    @classmethod
    def _load(cls, folder: Path, encoder: Encoder | None, cache: Path | None, user: str | None) -> Self:
        alone = [user] if user is not None and cls.sliced else None
        stored = artifacts.read(Path(folder), users=alone, opened=cls.shardable)
        if not is_kind(cls, str(stored.config.get("kind"))):
            raise InputError(str(folder), f"a model of kind '{stored.config.get('kind')}'", f"kind '{cls.kind}'")
        try:
            config = parse_options(cls.Config, cls.kind, dict(stored.config["config"]))
            model = cls(config, encoder=encoder, cache=cache)
            model._loaded_for = None if user is None else frozenset([user])
            model._folder, model._digest = Path(folder), stored.digest
            model._restore_stored(stored, encoder)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            found = f"an incomplete model ({' '.join(str(error).split())})"
            raise InputError(str(folder), found, f"a saved '{cls.kind}'") from error
        model._fitted = True
        return model

    def _restore_stored(self, stored: artifacts.Artifact, encoder: Encoder | None) -> None:
        """Take over what was stored, or raise what :meth:`load` makes one line of."""
        refuse_nan(stored.arrays)
        self._take_users(stored.arrays, stored.users)
        self._fit_notes = [str(note) for note in stored.config["notes"]]
        if stored.config.get("said"):
            self._said = unpack_said(stored.arrays["said"])
            if len(self._said) != stored.config["said"]:
                raise ValueError(f"labels of {len(self._said)} people for {stored.config['said']}")
        if self.uses_features():
            self._space = restore_space(stored.config["space"], stored.arrays)
            if encoder is not None and self._space.axes.shape[1]:
                self._space.check(encoder)
        self._restore(stored.config["state"], stored.arrays)
        if stored.shards is not None and self._loaded_for is None:
            self._shards = UserShards(stored.shards, lambda model, rows, ids: model._take_rows(stored, rows, ids))
        if encoder is not None and self._signature:
            check_signature(encoder, self.config.encoder, self._signature)

    def _take_users(self, arrays: Arrays, users: tuple[str, ...]) -> None:
        self._users, self._codes, self._recent = users, None, Recent(held)
        if "user.abstained" in arrays:
            self._abstained = arrays["user.abstained"].astype(np.bool_)
            if self._abstained.shape != (len(users),):
                raise ValueError(f"abstained users of shape {self._abstained.shape}")

    def _take_rows(self, stored: artifacts.Artifact, rows: Arrays, users: tuple[str, ...]) -> None:
        """Take the rows of some users in the place of the present ones; what all share stays."""
        refuse_nan(rows)
        self._shards = None
        self._take_users(rows, users)
        self._restore_users(stored.config["state"], {**stored.arrays, **rows})

    def _restore_users(self, state: dict[str, Any], arrays: Arrays) -> None:
        """Take over other users' rows; a kind whose shared part is dear to restore does without that."""
        self._restore(state, arrays)

    @abstractmethod
    def _fit(self, candidates: Candidates, rng: int) -> None: ...

    @abstractmethod
    def _predict(self, candidates: Candidates) -> RewardEstimate: ...

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], Arrays]: ...

    @abstractmethod
    def _restore(self, state: dict[str, Any], arrays: Arrays) -> None: ...

    def _load_encoder(self) -> Encoder | None:
        needed = self.uses_encoder() and getattr(self.config, "components", 1) > 0
        return self._require_encoder() if needed else None

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            signature = self._signature or ("" if self._space is None else self._space.signature)
            self._encoder = load_encoder(self.config.encoder, cache=self._cache, signature=signature)
        return self._encoder

    def _design(self, candidates: Candidates) -> Design:
        if self._space is None:
            raise BestforError(f"'{self.kind}' has no features before fit")
        space, encoder = self._space, self._load_encoder()
        if space.history:
            return space.design(candidates, encoder)
        return once("design", (space, *texts_of(candidates)), lambda: space.design(candidates, encoder))

    def _user_codes(self, candidates: Candidates) -> IntArray:
        """Index into the fitted users for each row, -1 for those without fit labels and those who abstain."""
        return self._known_codes(candidates.users)[candidates.user]

    def _known_codes(self, users: tuple[str, ...], *, abstaining: bool = False) -> IntArray:
        """Index into the fitted users, -1 where there is none; ``abstaining`` users count as known where asked for."""
        if self._codes is None:
            self._codes = {user: code for code, user in enumerate(self._users)}
        codes = np.array([self._codes.get(user, -1) for user in users], dtype=np.int64)
        if self._abstained is not None and len(self._users) and not abstaining:
            codes[(codes >= 0) & self._abstained[codes]] = -1
        return codes

    def _check_labels(self, candidates: Candidates, verb: str) -> None:
        bad = np.flatnonzero(~np.isfinite(candidates.utility))
        if len(bad):
            where = f"{verb} of '{self.kind}', query '{candidates.queries[candidates.query[bad[0]]]}'"
            found = f"utility {candidates.utility[bad[0]]} ({len(bad)} such rows)"
            raise InputError(where, found, "finite utilities; leave unlabelled candidates out")

    def _check_made(self) -> None:
        if "config" not in self.__dict__:
            expected = "super().__init__(config, encoder=encoder, cache=cache, **options) in its __init__"
            raise InputError(f"reward model '{type(self).__qualname__}'", "no 'config'", expected)

    def _check_whole(self) -> None:
        """Refuse to save what was not fitted, or was loaded for one user."""
        if not self._fitted or self._loaded_for is not None or self._shards is not None:
            raise BestforError(f"'{self.kind}' is saved whole, after fit")

    def _check_rows(self, candidates: Candidates) -> None:
        """Refuse rows of users whom a model that was loaded for one user does not know."""
        self._check_loaded_for(self._asking(candidates))

    def _check_loaded_for(self, users: tuple[str, ...]) -> None:
        """Refuse users whom a model that was loaded for one user does not know."""
        others = [] if self._loaded_for is None else [user for user in users if user not in self._loaded_for]
        if others:
            loaded = ", ".join(f"'{user}'" for user in sorted(self._loaded_for or ()))
            raise InputError(f"a '{self.kind}'", f"user '{others[0]}'", f"{loaded}, for whom it was loaded")

    def _new_user_notes(self, candidates: Candidates, codes: IntArray, served: str) -> tuple[str, ...]:
        """Say how many users without fit labels were served by something else: one note, or none."""
        new = (codes < 0) & (self._known_codes(candidates.users, abstaining=True) < 0)[candidates.user]
        count = len(np.unique(candidates.user[new])) if new.any() else 0
        if not count:
            return ()
        subject = "1 user without fit labels was" if count == 1 else f"{count} users without fit labels were"
        return (f"{subject} served by {served}",)
