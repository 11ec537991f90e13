"""Gather what the page shows: people, their answers with all candidates, refits, and prompts to try."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from bestfor.gateway.identity import NOBODY
from bestfor.gateway.tenants import Services
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.serving.journal.recent import recent_answers, recent_people, totals
from bestfor.serving.journal.refits import RefitRecord, refits_of
from bestfor.serving.service import Service

PEOPLE = 50
"""People on a page."""
ANSWERS = 20
"""Answers on a page."""
PROMPTS = 8
"""Prompts that are offered in the playground."""
NO_NAME = "(no user)"
"""Stands for whoever sent a request that named no user."""
SERVED = {"own": "own model", "everybody": "everybody's model", "abstained": "everybody's model (own one abstains)"}
"""What scores for a person, in words."""
SAID = {1.0: "yes", 0.0: "no"}


@dataclass(frozen=True)
class PersonRow:
    """A person as the table of people shows them.

    Attributes:
        user: the id.
        labels: labels that hold.
        kinds: how many of each kind, in words.
        answers: answers in the journal.
        gain: mean expected reward of their answers above that of a random candidate; None without answers.
        liked: share of their thumbs that said yes; None without thumbs.
        state: what serves them, in words.
        last: when their last answer was given, in words.
    """

    user: str
    labels: int
    kinds: str
    answers: int
    gain: float | None
    liked: float | None
    state: str
    last: str


@dataclass(frozen=True)
class CandidateRow:
    """A candidate of an answer.

    Attributes:
        place: among the candidates, from 0.
        text: the candidate; its SHA-256 where the journal keeps no texts.
        reward: the model's mean, in its own units; None where it had none.
        std: predictive standard deviation in the same units, None where the model has none.
        chance: exact probability with which the rule would have shown it.
        chosen: whether it was shown.
    """

    place: int
    text: str
    reward: float | None
    std: float | None
    chance: float
    chosen: bool


@dataclass(frozen=True)
class AnswerRow:
    """An answer as the page shows it.

    Attributes:
        id: of the answer.
        user: who asked.
        prompt: what was asked.
        shown: the text that was shown.
        candidates: all of them, the best reward first.
        served: what scored.
        rule: how it was picked.
        when: in words.
        said: what its user said of it, in words.
        hashed: whether the journal holds hashes in the place of texts.
    """

    id: str
    user: str
    prompt: str
    shown: str
    candidates: tuple[CandidateRow, ...]
    served: str
    rule: str
    when: str
    said: tuple[str, ...]
    hashed: bool


@dataclass(frozen=True)
class Overview:
    """Content of the page.

    Attributes:
        model: kind of the model that is served.
        folder: where it lies.
        upstream: who writes candidates.
        people: of the tenant.
        answers: likewise.
        labels: that hold.
        rows: people who said something last.
        recent: newest answers.
        refits: newest first.
    """

    model: str
    folder: str
    upstream: str
    people: int
    answers: int
    labels: int
    rows: tuple[PersonRow, ...]
    recent: tuple[AnswerRow, ...]
    refits: tuple[RefitRecord, ...]


def overview(services: Services, tenant: str, upstream: str, user: str | None, like: str) -> Overview:
    """Gather the page of a tenant, or of one of its people."""
    service = services.of(tenant)
    journal = service.journal
    people, answers, labels = totals(journal, tenant)
    users = [user] if user is not None else named_people(services, tenant, like)
    recent = recent_answers(journal, tenant, ANSWERS, user)
    return Overview(
        service.model.kind,
        str(service.folder or "memory"),
        upstream,
        people,
        answers,
        labels,
        tuple(person_row(services, tenant, one) for one in users),
        tuple(answer_rows(service, recent)),
        tuple(reversed(refits_of(journal, services.model.digest, tenant))),
    )


def named_people(services: Services, tenant: str, like: str = "") -> list[str]:
    """List people who said something last; requests without a user are nobody's."""
    found = recent_people(services.journal, tenant, PEOPLE, like)
    return [user for user in found if not user.startswith(NOBODY)]


def person_row(services: Services, tenant: str, user: str) -> PersonRow:
    """Describe a person; figures equal those that their journal gives."""
    service = services.of(tenant)
    held = [label for label, _ in service.journal.labels_of(tenant, user) if label.withdrawn is None]
    answers = service.journal.answers_of(tenant, user)
    kinds = Counter(label.kind for label in held)
    thumbs = [bool(label.value) for label in held if label.kind == "thumb"]
    gains = [gain for gain in map(expected_gain, answers) if gain is not None]
    return PersonRow(
        user,
        len(held),
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
        len(answers),
        float(np.mean(gains)) if gains else None,
        float(np.mean(thumbs)) if thumbs else None,
        _state(services, tenant, user),
        ago(max(one.time for one in answers)) if answers else "",
    )


def answer_rows(service: Service, answers: Sequence[LoggedAnswer]) -> list[AnswerRow]:
    """Describe answers, with what was said of each."""
    said: dict[str, list[str]] = {}
    for user in {answer.user for answer in answers}:
        for label, about in service.journal.labels_of(service.tenant, user):
            if about is not None and label.withdrawn is None:
                said.setdefault(about.id, []).append(_in_words(label))
    return [_answer_row(answer, tuple(said.get(answer.id, ()))) for answer in answers]


def expected_gain(answer: LoggedAnswer) -> float | None:
    """Compute an answer's expected reward above that of a random candidate; None where it has none."""
    if None in answer.mean:
        return None
    mean = np.array(answer.mean, dtype=np.float64)
    return float(np.dot(answer.chances, mean) - mean.mean())


def prompts(services: Services, tenant: str) -> list[str]:
    """List prompts to try: those that were asked last, then some of the run's."""
    asked = [one.prompt for one in recent_answers(services.journal, tenant, PROMPTS) if not one.hashed]
    run = services.model.run
    if run is not None and (run / "queries.parquet").is_file():
        asked += [
            text for text in pq.read_table(run / "queries.parquet", columns=["input"])["input"].to_pylist()[:400:50]
        ]
    return [one for one in dict.fromkeys(asked) if one][:PROMPTS]


def ago(then: float) -> str:
    """Say in words how long ago a moment was."""
    seconds = max(0.0, time.time() - then)
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _state(services: Services, tenant: str, user: str) -> str:
    collapsed, idle = services.known(tenant, user)
    if collapsed:
        return "collapsed: everybody's model serves"
    if idle:
        return "more candidates bring nothing: one is sampled"
    service = services.of(tenant)
    if not service.model.learns:
        return "learns at the next refit"
    served = service.person(user).served
    return SERVED[served]


def _answer_row(answer: LoggedAnswer, said: tuple[str, ...]) -> AnswerRow:
    std = answer.std or (None,) * len(answer.texts)
    rows = [
        CandidateRow(place, text, answer.mean[place], std[place], answer.chances[place], place == answer.chosen)
        for place, text in enumerate(answer.texts)
    ]
    rows.sort(key=lambda one: (not one.chosen, -(one.reward if one.reward is not None else -np.inf), one.place))
    return AnswerRow(
        answer.id,
        NO_NAME if answer.user.startswith(NOBODY) else answer.user,
        answer.prompt,
        answer.shown,
        tuple(rows),
        answer.served,
        answer.rule,
        ago(answer.time),
        said,
        answer.hashed,
    )


def _in_words(label: Label) -> str:
    """Say what a label says."""
    if label.kind == "thumb":
        return f"thumb: {SAID[float(bool(label.value))]}"
    if label.kind == "rating":
        return f"rating: {label.value:g} of {label.low:g} to {label.high:g}"
    if label.kind in ("kept", "dismissed"):
        return label.kind
    text = label.texts[0] if label.texts and not label.hashed else "(hashed)"
    return {"preference": f"prefers: {text}", "edit": f"wrote: {text}", "comment": f"says: {text}"}[label.kind]
