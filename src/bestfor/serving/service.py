"""Answer with the candidate that a person would pick, keep what they say, and learn from it at once.

    answer = pick(rule, scores(person(model, labels of the journal), prompt, texts))

The model is immutable and shared by all threads. A person is made of it and of the journal's labels when they are
needed, and kept until the journal says that their labels have changed, in this process or another.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np

from bestfor import rng
from bestfor.artifacts import CONFIG_FILE, ReplacedError
from bestfor.data.labels import Labels
from bestfor.errors import InputError
from bestfor.files import hash_file
from bestfor.rewards import RewardModel
from bestfor.rewards.person import Person
from bestfor.selection import PairRule, Pick, Rule, named_rule, select
from bestfor.serving import refit as refitting
from bestfor.serving.asking import PairQuestion, distinct, question_of
from bestfor.serving.base import ServedModel, open_model, scale_of
from bestfor.serving.cache import RecentlyUsed, bytes_of
from bestfor.serving.export import export_lines
from bestfor.serving.holdings import forget_person
from bestfor.serving.journal import AskedTexts, Forgotten, Label, Learned, LoggedAnswer, Standing, check_id
from bestfor.serving.keys import new_id, place_of
from bestfor.serving.labels import (
    LabelScale,
    Statement,
    check_metric_of,
    forget_texts,
    hash_of,
    read_said,
    to_labels,
)
from bestfor.serving.names import model_name
from bestfor.serving.options import MEMORY, OTHERS, PERSONS, AnswerOptions, ServiceOptions, check_options
from bestfor.serving.others import heard_notes, labels_of_others
from bestfor.types import FloatArray, Scores, Served

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

RECENT = 10_000
"""Answers, and texts where the journal may not keep them, that a process remembers."""

ONE_CHANCE = (
    "rule '{rule}' shows one answer with chance 1, so that its log cannot say how another rule would have done; "
    "explore=0.1 shows a random one in every tenth answer and logs the chances"
)


@dataclass(frozen=True)
class ServedAnswer:
    """An answer for a person.

    Attributes:
        id: names it in what is said about it.
        text: the candidate that was picked.
        index: its place among the candidates.
        scores: rewards of all candidates.
        chances: shape (n,), the exact probability with which each would have been shown.
        served: what scored: the user's own part, what all users share, or that, since own labels say no more.
        rule: by which it was picked, exploration included.
        notes: plain sentences on what was peculiar: one text, equal texts; and ``heard``.
        heard: a sentence on ratings by other people that counted, where there were any.
    """

    id: str
    text: str
    index: int
    scores: Scores
    chances: FloatArray
    served: Served
    rule: str
    notes: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Kept:
    """A person in memory: of which model and labels, and what scores."""

    served: ServedModel
    standing: Standing
    person: Person


class Service:
    """Answers for people, from a fitted model and a journal; threads may share one.

    Args:
        model: a run's folder (its best model is taken), a model's folder, or a fitted model.
        journal: ``sqlite:///feedback.db``, a path, ``postgresql://...``, or an open journal, which stays open.
        rule: name of a rule of :func:`bestfor.select`.
        explore: share of answers that are picked at random among all candidates, so that logs can be evaluated.
        tenant: whose users these are; users of two tenants never meet, and the model's own users are those of "".
        seed: of the picks that are drawn.
        **options: see :class:`ServiceOptions`.

    Raises:
        InputError: no such model, journal, rule or option, or a share that is none.
        JournalError: the journal cannot be opened.
    """

    def __init__(
        self,
        model: str | Path | RewardModel | ServedModel,
        journal: str | Path | Journal,
        rule: str = "best",
        explore: float = 0.0,
        tenant: str = "",
        seed: int = 0,
        **options: Unpack[ServiceOptions],
    ) -> None:
        self._rule = named_rule(rule)
        if isinstance(explore, bool) or not isinstance(explore, int | float) or not 0 <= explore <= 1:
            raise InputError("explore", f"{explore!r}", "a share from 0 to 1")
        self._explore, self._seed = float(explore), seed
        self.tenant = check_id("tenant", tenant)
        self._options = check_options(options)
        self._served = open_model(model, **self._given("encoder", "cache", "kinds"))
        scale = self._options.get("scale")
        if scale is None and self._served.run is not None:
            scale = scale_of(self._served.run)
        self._declared, self.scale = scale is not None, scale or LabelScale()
        check_metric_of(self.scale)
        self._most = self._options.get("others", OTHERS) if self._declared else 0  # else in units that nobody knows
        self._hashes = self._options.get("texts", "keep") == "hash"
        most = int(1e6 * self._options.get("memory", MEMORY))
        self._persons: RecentlyUsed[str, _Kept] = RecentlyUsed(self._options.get("persons", PERSONS), most, _weight)
        self._answers: RecentlyUsed[str, LoggedAnswer] = RecentlyUsed(RECENT)
        self._texts: RecentlyUsed[str, str] = RecentlyUsed(RECENT)
        self._owns = isinstance(journal, str | Path)
        self.journal = _opened(journal)
        self._forgets = self.journal.standing(self.tenant, "").forgets
        self._note_folders(self._served)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal, unless it was given open."""
        if self._owns:
            self.journal.close()

    @property
    def model(self) -> RewardModel:
        """Model that scores now."""
        return self._served.model

    @property
    def rule(self) -> str:
        """Name of the rule, exploration included."""
        return self._named(self._rule)

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what this service cannot do as it is set up."""
        notes = []
        if not self._explore and self._rule.temperature is None and _is_certain(self._rule):
            notes.append(ONE_CHANCE.format(rule=self._rule.name))
        if not self._served.model.learns:
            notes.append(f"kind '{self._served.model.kind}' learns at a refit only: labels are kept until then")
        return tuple(notes)

    def answer(
        self,
        user: str,
        prompt: str,
        texts: Sequence[str],
        history: Sequence[str] | None = None,
        *,
        id: str | None = None,
        tokens: int | None = None,
        rule: str | None = None,
        everybody: bool = False,
    ) -> ServedAnswer:
        """Pick one of some texts for a person, and log it with the exact chances of all.

        Args:
            user: who asks.
            prompt: what is asked.
            texts: n candidates, at least one.
            history: what the user wrote before, oldest first, where the model looks at it.
            id: of the answer; None makes one. The same id draws the same pick.
            tokens: how many were generated for the candidates, for the log.
            rule: of this answer; None for the service's.
            everybody: whether what all users share scores, whatever is known of this one.

        Returns:
            The answer; it is in the journal.

        Raises:
            InputError: no texts, something that is no text, or an id that is there already.
            JournalError: the answer could not be stored.
        """
        given: AnswerOptions = {"id": id, "tokens": tokens, "rule": rule, "everybody": everybody}
        picked, stored = self.begin(user, prompt, texts, history, **given)
        stored.result()
        return picked

    def begin(
        self,
        user: str,
        prompt: str,
        texts: Sequence[str],
        history: Sequence[str] | None = None,
        **options: Unpack[AnswerOptions],
    ) -> tuple[ServedAnswer, Future[None]]:
        """Pick as :meth:`answer` does, without waiting for the journal.

        Returns:
            The answer, and what is done when it is in the journal, or raises what :meth:`answer` would.
        """
        texts = _checked_texts("texts", texts)
        _check_text("prompt", prompt)
        history = None if history is None else _checked_texts("history", history, least=0)
        rule, id, everybody = options.get("rule"), options.get("id"), options.get("everybody", False)
        asked = self._rule if rule is None else named_rule(rule)
        served, scores, heard = self._scored(check_id("user", user), prompt, texts, history, everybody=everybody)
        id = new_id() if id is None else id
        pick = self._pick(scores, texts, id, asked)
        record = LoggedAnswer(
            id=id,
            user=user,
            prompt=prompt,
            texts=tuple(texts),
            mean=_plain(scores.mean),
            std=None if scores.std is None else _plain(scores.std),
            chances=tuple(pick.chances.tolist()),
            chosen=pick.index,
            rule=self._named(asked),
            model=served.digest,
            served=scores.served,
            tokens=options.get("tokens"),
            time=time.time(),
        )
        on_disk = self._options.get("on_disk", "all") == "all"
        stored = self.journal.send_answer(self.tenant, self._hashed_answer(record), on_disk=on_disk)
        self._answers.put(id, record)
        stored.add_done_callback(lambda done: self._drop_lost(done, id))
        said = (scores.served, record.rule, (*_peculiar(texts), *heard), heard)
        return ServedAnswer(id, texts[pick.index], pick.index, scores, pick.chances, *said), stored

    def _drop_lost(self, stored: Future[None], id: str) -> None:
        """Forget an answer that did not come into the journal."""
        if stored.exception() is not None:
            self._answers.drop(lambda known, answer: known == id)

    def ask(
        self,
        user: str,
        prompt: str,
        texts: Sequence[str],
        history: Sequence[str] | None = None,
        *,
        rule: PairRule = "expected",
        seed: int | None = None,
    ) -> PairQuestion:
        """Choose the two texts whose comparison is worth most to this person's later answers.

        Nothing is logged; what they prefer is said by ``learn(user=..., prompt=..., prefer=[better, worse])``.

        Args:
            user: who is asked.
            prompt: what the texts are for.
            texts: candidates, at least two that differ.
            history: as for :meth:`answer`.
            rule: ``expected`` (the expected rise of the best candidate's mean), ``duel``, ``top-two`` or ``random``.
            seed: draws the pair of ``random``; None takes the service's.

        Returns:
            The question, ``a, b = service.ask(...)``.

        Raises:
            InputError: fewer than two texts that differ, something that is no text, or an unknown rule.
        """
        given = _checked_texts("texts", texts)
        _check_text("prompt", prompt)
        history = None if history is None else _checked_texts("history", history, least=0)
        user, kept = check_id("user", user), distinct(given)
        _, scores, _ = self._scored(user, prompt, kept, history)
        draw = rng.derive(self._seed if seed is None else seed, "ask", self.tenant, user, prompt)
        return question_of((user, prompt, given), kept, scores, rule, draw)

    def learn(
        self,
        answer: str | None = None,
        *,
        user: str | None = None,
        prompt: str = "",
        text: str | None = None,
        key: str | None = None,
        **said: Unpack[Statement],
    ) -> Learned:
        """Keep what a person says, of an answer or of a bare text; the next answer knows it.

        Args:
            answer: the answer's id; None for a bare text.
            user: who says it; needed where there is no answer.
            prompt: what was asked, where there is no answer.
            text: what is spoken of; None for the text that was shown.
            key: names what is said: once however often it is sent, changed by another value, withdrawn for good by
                :meth:`withdraw`. None names its place (the kind, of this answer or text), where it may be said anew.
            **said: exactly one of those of :class:`~bestfor.serving.labels.Statement`.

        Returns:
            A receipt; the label is on the disk.

        Raises:
            InputError: an unknown answer, a rating outside its scale, a text preferred to itself ...; nothing is kept.
            JournalError: it could not be stored.
        """
        kind, value = read_said(said)
        about = None if answer is None else self._find_answer(answer)
        if about is not None and user not in (None, about.user):
            raise InputError("user", f"'{user}'", "the user to whom the answer was given")
        if about is None and user is None:
            raise InputError("user", "nobody", "an answer's id, or user=")
        _check_text("prompt", prompt)
        number, texts = kind.read(value, text, about, self.scale)
        if not self._declared and kind.learned and kind.name != "preference":
            expected = "scale=LabelScale(worst, best), in the units of the model's own labels"
            raise InputError("scale", "a model whose run nobody knows", expected)
        owner = check_id("user", about.user if about is not None else user)
        name = key if key is not None else place_of(owner, prompt, about, kind.name, (texts, text))
        low, high = self.scale.rating if kind.name == "rating" else (None, None)
        weight = self.scale.weight(kind.name)
        label = Label(name, owner, kind.name, answer, number, low, high, texts, prompt, weight, time.time())
        (learned,) = self.journal.add_labels(self.tenant, [self._hashed_label(label)], revive=key is None)
        if kind.learned and not self._served.model.learns:
            return replace(learned, note=f"kind '{self._served.model.kind}' learns it at the next refit")
        return learned

    def withdraw(self, key: str) -> bool:
        """Take a label back; says whether there was one that held."""
        return self.journal.withdraw(self.tenant, key)

    def export(self, user: str) -> str:
        """Write all that is kept of a person as JSON lines: who they are, their answers, their labels."""
        return export_lines(self.journal, self.tenant, check_id("user", user))

    def forget(self, user: str) -> Forgotten:
        """Remove a person from the journal for good; they are then served as a newcomer.

        What a model or a run on disk holds of them is left, and named in the receipt; refits do not read it.

        Raises:
            JournalError: it could not be done.
        """
        receipt = forget_person(self.journal, self.tenant, check_id("user", user), self._folders())
        self._drop([user])
        cache = self._options.get("cache")
        if cache is not None:
            note = f"{cache} holds embeddings of texts under hashes of the texts, of nobody's name"
            receipt = replace(receipt, notes=(*receipt.notes, note))
        return receipt

    def refit(self, out: str | Path) -> refitting.Refitted:
        """Fit the model again on its run's labels and the journal's, store it, and serve it from then on.

        Answers that are under way end with the model that they began with.

        Args:
            out: the new model's folder.

        Raises:
            InputError: nobody knows the run of the model.
        """
        source = refitting.Source(self.journal, self.tenant, self.scale, self._find_text)
        while True:
            forgets = self._standing("").forgets
            done = refitting.refit(self._served, Path(out), source, **self._given("encoder", "cache"))
            # Somebody who was forgotten while it was fitted must not be in it.
            if self._standing("").forgets == forgets:
                break
        self.reload(out)
        return done

    @property
    def folder(self) -> Path | None:
        """Folder of the model that is served; None for one in memory."""
        return self._served.folder

    def reload(self, model: str | Path | RewardModel) -> None:
        """Serve another model from now on; the journal stays.

        Raises:
            InputError: no model there; the one that was served goes on.
        """
        served = open_model(model, **self._given("encoder", "cache", "kinds"))
        self._note_folders(served)
        self._served = served

    def person(self, user: str) -> Person:
        """Make, or give, what scores for a person: the model and all that they said since.

        Raises:
            InputError: the model's kind does not learn from what people say.
        """
        if not self._served.model.learns:
            raise InputError(
                "person", f"kind '{self._served.model.kind}', which learns at fit only", "a kind that learns"
            )
        return self._person(self._served, check_id("user", user))

    def _given(self, *names: str) -> dict[str, Any]:
        """Options of these names that were given."""
        return {name: value for name, value in self._options.items() if name in names and value is not None}

    def _scored(
        self, user: str, prompt: str, texts: Sequence[str], history: Sequence[str] | None, *, everybody: bool = False
    ) -> tuple[ServedModel, Scores, tuple[str, ...]]:
        """Score a request, by the folder's new model where that has replaced the one that was opened.

        Raises:
            InputError: a part of the model is lost.
        """
        served = self._served
        try:
            return served, *self._score(served, user, prompt, texts, history, everybody=everybody)
        except ReplacedError:
            if served.folder is None or hash_file(served.folder / CONFIG_FILE) == served.digest:
                raise
        self.reload(served.folder)
        served = self._served
        return served, *self._score(served, user, prompt, texts, history, everybody=everybody)

    def _score(
        self,
        served: ServedModel,
        user: str,
        prompt: str,
        texts: Sequence[str],
        history: Sequence[str] | None,
        *,
        everybody: bool = False,
    ) -> tuple[Scores, tuple[str, ...]]:
        asked = AskedTexts(self.tenant, user, prompt, tuple(texts))
        others = labels_of_others(self.journal, asked, self.scale, served, self._most)
        heard: dict[str, Any] = {"others": others} if others else {}
        if served.model.learns and not everybody:
            scores = self._person(served, user).score(prompt, texts, history, **heard)
        else:
            name = model_name(self.tenant, user, forgotten=everybody or self._standing(user).forgotten)
            scores = served.model.score(name, prompt, texts, history, **heard)
        return scores, heard_notes(others)

    def _person(self, served: ServedModel, user: str) -> Person:
        standing = self._standing(user)
        kept = self._persons.get(user)
        if kept is not None and kept.served is served and kept.standing == standing:
            return kept.person
        labels = Labels()
        if standing.revision is not None:
            labels, _ = to_labels(self.journal.labels_of(self.tenant, user), self.scale, self._find_text)
        person = served.model.person(model_name(self.tenant, user, forgotten=standing.forgotten), labels)
        self._persons.put(user, _Kept(served, standing, person))
        # Somebody who was forgotten meanwhile must not stay in memory.
        if self._standing(user).revision is None:
            self._persons.drop(lambda known, kept: known == user and kept.standing.revision is not None)
        return person

    def _standing(self, user: str) -> Standing:
        """Read a person's standing; whoever was forgotten since, by any process, leaves this one's memory too."""
        standing = self.journal.standing(self.tenant, user)
        if standing.forgets != self._forgets:
            self._forgets = standing.forgets
            known = {*self._persons.keys(), *(answer.user for answer in self._answers.values())}
            self._drop(self.journal.forgotten(self.tenant, sorted(known)))
        return standing

    def _drop(self, users: Collection[str]) -> None:
        """Remove people from memory, and all texts that may be theirs."""
        self._persons.drop(lambda known, kept: known in users)
        self._answers.drop(lambda id, answer: answer.user in users)
        self._texts.drop(lambda known, text: True)
        forget_texts()

    def _named(self, rule: Rule) -> str:
        return f"{rule.name}, explore {self._explore:g}" if self._explore else rule.name

    def _pick(self, scores: Scores, texts: Sequence[str], id: str, rule: Rule) -> Pick:
        """Pick by the rule, or at random in a share of the answers; chances are those of both."""
        draw = rng.derive(self._seed, "answer", self.tenant, id)
        pick = select(scores, rule, texts=texts, rng=draw)
        if not self._explore:
            return pick
        chances = (1 - self._explore) * pick.chances + self._explore / len(texts)
        index = int(draw.integers(len(texts))) if draw.random() < self._explore else pick.index
        return replace(pick, index=index, chances=chances / chances.sum())

    def _find_answer(self, id: str) -> LoggedAnswer:
        """Give an answer, with its texts where they are to be had."""
        known = self._answers.get(check_id("answer", id))
        if known is None:
            known = self.journal.answer(self.tenant, id)
            if known is None:
                raise InputError("answer", f"the id '{id[:60]}', which is not in the journal", "the id of an answer")
        return known

    def _hashed_answer(self, answer: LoggedAnswer) -> LoggedAnswer:
        if not self._hashes:
            return answer
        self._remember((answer.prompt, *answer.texts))
        return replace(
            answer, prompt=hash_of(answer.prompt), texts=tuple(hash_of(one) for one in answer.texts), hashed=True
        )

    def _hashed_label(self, label: Label) -> Label:
        if not self._hashes:
            return label
        self._remember((label.prompt, *label.texts))
        known = label.answer is not None and self._find_answer(label.answer).hashed
        # Of an answer that only the journal remembers, the texts are hashes already.
        texts = tuple(one if known and _is_hash(one) else hash_of(one) for one in label.texts)
        return replace(label, prompt=hash_of(label.prompt) if label.prompt else "", texts=texts, hashed=True)

    def _remember(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._texts.put(hash_of(text), text)

    def _find_text(self, known: str) -> str | None:
        text = self._texts.get(known)
        elsewhere = self._options.get("find_text")
        return text if text is not None or elsewhere is None else elsewhere(known)

    def _folders(self) -> list[tuple[Path, bool]]:
        own = [(self._served.folder, False), (self._served.run, True)]
        return [(path.resolve(), run) for path, run in own if path is not None]

    def _note_folders(self, served: ServedModel) -> None:
        for path, run in ((served.folder, False), (served.run, True)):
            if path is not None:
                self.journal.note_folder(path, run=run)


def _weight(kept: _Kept) -> int:
    return bytes_of(kept.person)


def _opened(journal: str | Path | Journal) -> Journal:
    """Open a journal, unless it is."""
    from bestfor.serving.journal import Journal

    return Journal(journal) if isinstance(journal, str | Path) else journal


def _checked_texts(where: str, texts: Sequence[str], least: int = 1) -> list[str]:
    """Check a list of texts."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(where, f"a value of type {type(texts).__name__}", "a list of texts")
    found = list(texts)
    for place, text in enumerate(found):
        _check_text(f"{where}, number {place}", text)
    if len(found) < least:
        raise InputError(where, "none", "at least one")
    return found


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str):
        found = "NaN" if isinstance(text, float) and np.isnan(text) else f"a value of type {type(text).__name__}"
        raise InputError(where, found, "text")


def _plain(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(None if value != value else value for value in values.tolist())


def _peculiar(texts: Sequence[str]) -> tuple[str, ...]:
    """Say where there was nothing to choose."""
    if len(texts) == 1:
        return ("one text: there was nothing to choose",)
    return ("all texts are equal: there was nothing to choose",) if len(set(texts)) == 1 else ()


def _is_certain(rule: Rule) -> bool:
    """Tell whether a rule shows one candidate with chance 1, ties apart."""
    return not rule.thompson and float(rule.rank_chances(8).max()) > 1 - 1e-9


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
