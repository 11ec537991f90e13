"""Diagnose a journal as a log of shown answers: its candidates, chances and rewards, and what people said.

The outcome of a shown answer is the mean of what its user's labels say of the shown text, by the labels' weights
(:mod:`bestfor.serving.labels`), between 0, the worst, and 1, the best. Preferences and comments tell no outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bestfor.data.candidates import Candidates
from bestfor.diagnostics.diagnose import Settings
from bestfor.diagnostics.logs import LogDiagnosis, diagnose_logs, logged_pools
from bestfor.errors import InputError, nearest
from bestfor.runs.picks import open_sources
from bestfor.serving.journal import Label, LoggedAnswer
from bestfor.serving.labels import KINDS, LabelScale, hash_of
from bestfor.serving.names import model_name
from bestfor.types import FloatArray

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

SIGNALS = ("rating", "thumb", "kept", "dismissed", "edit")
"""Kinds of labels that tell the outcome of a shown answer."""

OWN = "journal"
"""Name of the rewards that the journal holds."""


@dataclass(frozen=True)
class JournalSource:
    """Choice of a journal's answers that are looked at, and of what counts as their outcome.

    Attributes:
        tenant: whose users; None takes everybody's.
        signals: kinds of labels that count; all of :data:`SIGNALS` where there are none.
        silence: outcome of an answer of which nobody said anything, between 0 and 1; None where silence is unknown.
        models: folders of models or runs whose rewards are judged beside the journal's own.
        scale: how labels are read.
    """

    tenant: str | None = None
    signals: Collection[str] = ()
    silence: float | None = None
    models: Sequence[str | Path] = ()
    scale: LabelScale = field(default_factory=LabelScale)

    def __post_init__(self) -> None:
        """Check the kinds and the number.

        Raises:
            InputError: an unknown kind, or an outcome that is none.
        """
        for name in self.signals:
            if name not in SIGNALS:
                raise InputError("--signal", f"'{name}'", nearest(name, SIGNALS))
        if self.silence is not None and not 0 <= self.silence <= 1:
            raise InputError("--silence", f"{self.silence:g}", "an outcome from 0, the worst, to 1, the best")


@dataclass(frozen=True)
class _Read:
    """Answers of a journal with their outcomes (NaN where there is none), under the names a model knows."""

    answers: list[LoggedAnswer]
    people: list[str]
    outcome: FloatArray
    unsaid: Counter[str]


def diagnose_journal(
    journal: Journal, source: JournalSource | None = None, settings: Settings | None = None
) -> LogDiagnosis:
    """Estimate Best-of-N curves from what a journal holds.

    Args:
        journal: an open one.
        source: which answers, outcomes and reward models.
        settings: values of N, averaging and level; a log averages over its answers unless told otherwise.

    Returns:
        Curves of the rewards that the journal holds (``"journal"``) and of the models named.

    Raises:
        InputError: no answers, a rule that took the best, or too few outcomes; a model that cannot read hashed texts.
    """
    source, settings = source or JournalSource(), settings or Settings(averaging="query")
    read = _read(journal, source)
    if not read.answers:
        raise InputError(journal.name, "no answers", "answers that were shown, and what people said of them")
    rewards = _rewards(read, source, journal.name)
    size = np.array([len(one.texts) for one in read.answers], dtype=np.int64)
    known = np.arange(size.max()) < size[:, None]
    scored = np.logical_and.reduce([np.isfinite(np.where(known, one, 0.0)).all(axis=1) for one in rewards.values()])
    if not scored.any():
        raise InputError(journal.name, "no answer whose candidates all have rewards", "some, or --model FOLDER")
    try:
        found = _estimate(read, rewards, scored, settings)
    except InputError as error:
        expected = error.expected.replace(
            "a column with the chance that such an answer gets one (--answered)",
            "--silence VALUE where silence itself is an outcome",
        )
        raise InputError(journal.name, error.found, expected) from None
    name = settings.name or Path(journal.name).stem
    return replace(found, name=name, notes=(*found.notes, *_notes(read, scored, source)))


def shown_outcomes(journal: Journal, source: JournalSource) -> Iterator[tuple[LoggedAnswer, str, float]]:
    """List the answers of a journal, the name under which a model knows their user, and their outcome (NaN: none)."""
    read = _read(journal, source)
    yield from zip(read.answers, read.people, read.outcome.tolist(), strict=True)


def _estimate(read: _Read, rewards: Mapping[str, FloatArray], scored: np.ndarray, settings: Settings) -> LogDiagnosis:
    """Estimate the curves from the answers with rewards whose outcome is known."""
    size = np.array([len(one.texts) for one in read.answers], dtype=np.int64)
    kept = scored & np.isfinite(read.outcome)
    _, user = np.unique(np.array(read.people)[kept], return_inverse=True)
    pools = logged_pools(
        user.astype(np.int64),
        _padded([one.chances for one in read.answers], size)[kept],
        size[kept],
        np.array([one.chosen for one in read.answers], dtype=np.int64)[kept],
        read.outcome[kept],
    )
    return diagnose_logs(
        pools,
        {name: one[kept] for name, one in rewards.items()},
        None if settings.n is None else np.array(sorted(settings.n), dtype=np.int64),
        shown=int(scored.sum()),
        averaging=settings.averaging,
        level=settings.level,
    )


def _read(journal: Journal, source: JournalSource) -> _Read:
    """Read everybody's answers and what their labels say of what was shown."""
    answers: list[LoggedAnswer] = []
    people: list[str] = []
    outcome: list[float] = []
    unsaid: Counter[str] = Counter()
    for tenant, user in journal.people(source.tenant):
        said: dict[str, list[tuple[float, float]]] = {}
        for label, answer in journal.labels_of(tenant, user):
            if answer is None or label.withdrawn is not None:
                continue
            told = _told(label, answer, source)
            if told is None:
                unsaid[label.kind] += 1
            else:
                said.setdefault(answer.id, []).append(told)
        for answer in journal.answers_of(tenant, user):
            answers.append(answer)
            people.append(model_name(tenant, user))
            values = said.get(answer.id)
            silent = np.nan if source.silence is None else source.silence
            outcome.append(silent if values is None else _mean(values))
    return _Read(answers, people, np.array(outcome, dtype=np.float64), unsaid)


def _mean(values: Sequence[tuple[float, float]]) -> float:
    utility, weight = np.array(values).T
    return float(np.average(utility, weights=weight))


def _told(label: Label, answer: LoggedAnswer, source: JournalSource) -> tuple[float, float] | None:
    """Read a label's utility of the shown text and its weight; None where it says nothing of it."""
    if label.kind not in (source.signals or SIGNALS) or not label.weight:
        return None
    if label.kind == "edit":
        if label.hashed or answer.hashed:
            return None
    elif _as_kept(label.texts[0], label.hashed, answer) != answer.shown:
        return None
    else:
        label = replace(label, texts=(answer.shown, *label.texts[1:]))
    scale = source.scale
    for one in KINDS[label.kind].records(label, answer, scale).rated:
        if one.text == answer.shown:
            share = (one.utility - scale.worst) / (scale.best - scale.worst)
            return share, one.weight
    return None


def _as_kept(text: str, hashed: bool, answer: LoggedAnswer) -> str:
    """Write a label's text as its answer's texts are kept."""
    return hash_of(text) if answer.hashed and not hashed else text


def _rewards(read: _Read, source: JournalSource, where: str) -> Mapping[str, FloatArray]:
    """Read the journal's rewards and ask the models named; shape (answers, M) each, NaN where there is none."""
    size = np.array([len(one.texts) for one in read.answers], dtype=np.int64)
    own = [[np.nan if value is None else value for value in one.mean] for one in read.answers]
    found = {OWN: _padded(own, size)}
    if not np.isfinite(found[OWN]).any() and source.models:
        del found[OWN]
    if source.models and any(one.hashed for one in read.answers):
        raise InputError(where, "hashes in the place of texts", "no --model, or a journal that keeps texts")
    for place in source.models:
        for number, one in enumerate(sources := open_sources(place)):
            name = one.label if len(sources) == 1 else f"{one.label}, fold {number}"
            if name in found:
                raise InputError("--model", f"two models of the name '{name}'", "models of different names")
            texts = [list(answer.texts) for answer in read.answers]
            asked = Candidates.of(read.people, [answer.prompt for answer in read.answers], texts)
            mean = np.asarray(one.model.predict(asked).mean, dtype=np.float64)
            found[name] = _padded(np.split(mean, np.cumsum(size)[:-1]), size)
    return found


def _padded(rows: Sequence[Sequence[float] | FloatArray], size: np.ndarray) -> FloatArray:
    """Lay rows of different lengths out as one table, 0 past their size."""
    result = np.zeros((len(rows), int(size.max())))
    for place, row in enumerate(rows):
        result[place, : len(row)] = row
    return result


def _notes(read: _Read, scored: np.ndarray, source: JournalSource) -> list[str]:
    notes: list[str] = []
    kept = [one for one, known in zip(read.answers, scored.tolist(), strict=True) if known]
    if len(kept) < len(read.answers):
        notes.append(f"{len(read.answers) - len(kept)} answers were left out: a model had no reward for a candidate")
    models = Counter(one.model for one in kept)
    if len(models) > 1:
        notes.append(
            f"the rewards '{OWN}' are of {len(models)} models one after another, and so is their curve; --model FOLDER "
            "judges one model on all answers"
        )
    silent = int(np.isnan(read.outcome).sum()) if source.silence is None else 0
    if silent:
        notes.append(f"of {silent} answers nobody said anything")
    other = sum(count for kind, count in read.unsaid.items() if kind in SIGNALS)
    if other:
        notes.append(f"{other} labels were left out: other kinds than asked for, or not about the shown text")
    relative = read.unsaid["preference"]
    if relative:
        notes.append(f"{relative} preferences tell no outcome of the shown answer by itself")
    return notes
