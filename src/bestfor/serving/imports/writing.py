"""Write what exports say into a journal, each thing once, and count what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bestfor.errors import InputError, nearest
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.progress import Progress
from bestfor.serving.imports.feedback import (
    GivenScore,
    ImportOptions,
    ShownAnswer,
    check_scores,
    in_scale,
    is_thumb,
    labels_of,
    read_score,
)
from bestfor.serving.imports.kinds import SOURCES, ExportKind
from bestfor.serving.imports.rows import export_rows

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

PORTION = 20_000
"""Labels that one transaction stores: in large ones a page of the database is written once for many labels."""


@dataclass(frozen=True)
class Imported:
    """Receipt of an import.

    Attributes:
        answers: answers that are new in the journal.
        labels: labels that are new, by kind.
        same: labels that were there already.
        changed: labels that were there with another value.
        left_out: records that became no label, by reason.
    """

    answers: int
    labels: Mapping[str, int]
    same: int
    changed: int
    left_out: Mapping[str, int]


@dataclass
class _Scan:
    """Answers and scores that a first pass over the files finds."""

    answers: dict[str, ShownAnswer] = field(default_factory=dict)
    scores: int = 0
    rows: int = 0
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)
    undeclared: dict[str, str] = field(default_factory=dict)


def import_files(
    journal: Journal, files: Sequence[Path], source: str, options: ImportOptions | None = None
) -> Imported:
    """Read exports of a tool into a journal; what is there already is not counted again.

    Files are read twice: once for the answers, and for the scores that there are, so that a scale that is missing is
    said before anything is stored. People who were forgotten stay forgotten: nothing of theirs is taken.

    Args:
        journal: an open one.
        files: exports; answers and scores may lie in different ones.
        source: a key of :data:`~bestfor.serving.imports.kinds.SOURCES`.
        options: which scores count, and how they are read.

    Raises:
        InputError: an unknown tool, a file that cannot be read, scores of several names or without a scale.
        JournalError: the journal could not be written; what was stored before stays.
    """
    options = options or ImportOptions()
    kind = SOURCES.get(source)
    if kind is None:
        raise InputError("--from", f"'{source}'", nearest(source, SOURCES))
    survey = _look(files, kind, options)
    _check(files, kind, survey, options)
    return _write(journal, files, kind, survey, options)


def _look(files: Sequence[Path], kind: ExportKind, options: ImportOptions) -> _Scan:
    survey = _Scan()
    for path in files:
        for where, row in export_rows(path):
            survey.rows += 1
            shown = kind.answer(where, row)
            if shown is not None:
                survey.answers[shown.id] = shown
            for given in kind.scores(where, row):
                survey.scores += 1
                if options.automatic or given.human:
                    _count(survey, given, options)
    return survey


def _count(survey: _Scan, given: GivenScore, options: ImportOptions) -> None:
    if given.score is not None or given.rankings or given.signal:
        survey.names[given.name] += 1
    if given.score is None or (options.names and given.name not in options.names):
        return
    value = read_score(given.score, options)
    if value is None:
        survey.undeclared.setdefault(given.name, str(given.score))
    elif (scale := options.scale or given.scale) is not None:
        in_scale(scale[1] if isinstance(value, bool) else value, scale, given.where)
    elif not is_thumb(value):
        survey.low[given.name] = min(survey.low.get(given.name, float(value)), float(value))
        survey.high[given.name] = max(survey.high.get(given.name, float(value)), float(value))


def _check(files: Sequence[Path], kind: ExportKind, survey: _Scan, options: ImportOptions) -> None:
    """Refuse what cannot be read as meant.

    Raises:
        InputError: nothing that was said, several scores, a scale or a category that nobody declared.
    """
    where = ", ".join(map(str, files))
    if not survey.scores:
        raise InputError(where, f"{survey.rows} rows and nothing that was said of an answer", kind.expected)
    if not survey.answers:
        raise InputError(where, f"{survey.scores} scores and no answer that they are about", kind.expected)
    check_scores(survey.names, options)
    if survey.low and options.scale is None:
        name = next(iter(survey.low))
        named = f"scores '{name}'" if name else "scores"
        found = f"{named} from {survey.low[name]:g} to {survey.high[name]:g}"
        raise InputError("--scale", found, "LOW:HIGH, the lowest and the highest number that people could give")
    if survey.undeclared:
        name, word = next(iter(survey.undeclared.items()))
        raise InputError("--word", f"the category '{word}' of '{name}'", f"--word '{word}=1' for liked, 0 for not")


def _write(
    journal: Journal, files: Sequence[Path], kind: ExportKind, survey: _Scan, options: ImportOptions
) -> Imported:
    with Progress("scores read", survey.scores, after=1.0) as progress:
        writer = _LabelWriter(journal, options.tenant)
        try:
            for path in files:
                for where, row in export_rows(path):
                    for given in kind.scores(where, row):
                        progress.advance()
                        _add(writer, given, survey, options, kind.name)
            writer.store()
            writer.finish()
        finally:
            writer.close()
    return writer.receipt()


def _add(writer: _LabelWriter, given: GivenScore, survey: _Scan, options: ImportOptions, source: str) -> None:
    """Take one record, or count why it is left out."""
    if not given.human and not options.automatic:
        return writer.leave("not said by a person")
    shown = next((survey.answers[one] for one in given.about if one in survey.answers), None)
    if shown is None:
        return writer.leave("about an answer that is not in the files")
    if given.user is None and shown.user is None:
        return writer.leave("nobody knows of which user")
    counts = given.score is not None and (not options.names or given.name in options.names)
    value = read_score(given.score, options) if counts and given.score is not None else None
    answer, made = labels_of(given, shown, value, options, source)
    if not made:
        return writer.leave("a score that was not asked for")
    return writer.add(answer, made)


class _LabelWriter:
    """Stores labels in portions, and counts what became of them."""

    def __init__(self, journal: Journal, tenant: str) -> None:
        self._journal, self._tenant = journal, tenant
        self._answers: list[LoggedAnswer] = []
        self._labels: list[Label] = []
        self._forgotten: dict[str, bool] = {}
        self._new: Counter[str] = Counter()
        self._status: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._stored = 0
        self._thread = ThreadPoolExecutor(1, "bestfor-import")
        self._writing: Future[None] | None = None

    def leave(self, reason: str) -> None:
        """Count a record that becomes no label."""
        self._left[reason] += 1

    def add(self, answer: LoggedAnswer | None, labels: Sequence[Label]) -> None:
        """Take labels, and the answer that they need."""
        if answer is not None:
            self._answers.append(answer)
        self._labels += labels
        if len(self._labels) >= PORTION:
            self.store()

    def store(self) -> None:
        """Hand on what was gathered; the next portion is read while this one is written."""
        self.finish()
        self._writing = self._thread.submit(self._write, self._answers, self._labels)
        self._answers, self._labels = [], []

    def finish(self) -> None:
        """Wait for the portion that is being written.

        Raises:
            InputError: something of it cannot be stored.
            JournalError: the journal could not be written.
        """
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        """End the thread that writes."""
        self._thread.shutdown()

    def _write(self, answers: Sequence[LoggedAnswer], labels: Sequence[Label]) -> None:
        """Store a portion; people who were forgotten stay forgotten."""
        gone = self._gone({one.user for one in labels})
        kept = [one for one in labels if one.user not in gone]
        self._left["of a person who was forgotten"] += len(labels) - len(kept)
        wanted = [one for one in answers if one.user not in gone]
        self._stored += self._journal.add_answers(self._tenant, wanted)
        for label, done in zip(kept, self._journal.add_labels(self._tenant, kept, portion=PORTION), strict=True):
            self._status[done.status] += 1
            if done.status == "new":
                self._new[label.kind] += 1

    def receipt(self) -> Imported:
        """Say what was done."""
        left = {reason: count for reason, count in self._left.most_common() if count}
        if self._status["withdrawn"]:
            left["withdrawn since it was read"] = self._status["withdrawn"]
        return Imported(
            self._stored, dict(sorted(self._new.items())), self._status["same"], self._status["changed"], left
        )

    def _gone(self, users: set[str]) -> set[str]:
        """Find those who were forgotten; each person is looked up once."""
        unknown = sorted(user for user in users if user not in self._forgotten)
        if unknown:
            found = self._journal.forgotten(self._tenant, unknown)
            self._forgotten |= {user: user in found for user in unknown}
        return {user for user in users if self._forgotten[user]}
