"""Load a table of labels of any kind as ratings: utilities that can be split and shown, and what each person said.

A reward model that learns from people is told what each said, by the same records as a service's journal gives
(:mod:`bestfor.labels.kinds`). For all else a text of a user and prompt has one utility, the mean, by weight, of

    what ratings, thumbs, weak signals and edits say of it, and
    for each preference a thumb up of the better text and a thumb down of the worse one:

a ranking alone so gives each text the share of the others that it beats, between the two thumbs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.data.ratings import Ratings
from bestfor.data.read.tables import file_signature
from bestfor.data.text import plain_form
from bestfor.errors import InputError
from bestfor.labels.kinds import check_metric_of, to_labels
from bestfor.labels.rows import ReadLabels, Said, read_labels
from bestfor.labels.scale import LabelScale

Key = tuple[str, str, str]
"""User, prompt and text."""
SHOWN = 3
"""Comments that the notes show."""


@dataclass(frozen=True)
class LabelOptions:
    """Scales and weights of a table of labels; what is None is taken from the labels.

    Attributes:
        rating: lowest and highest rating; rows may say another scale in columns low and high.
        worst: utility of the lowest rating; None takes the ratings' own scale where they have one, else 0.
        best: utility of the highest; None likewise, else 1.
        thumbs: utilities of no and yes; None takes the middles of the lower and the upper half.
        metric: compares candidates with what a person finally wrote.
        metric_unit: utility of one unit of that metric; None takes ``best - worst``.
        weights: weights of some kinds over that of a rating.
    """

    rating: tuple[float, float] | None = None
    worst: float | None = None
    best: float | None = None
    thumbs: tuple[float, float] | None = None
    metric: str = "rougeL"
    metric_unit: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def scale(self, said: Iterable[Said]) -> LabelScale:
        """Find the utilities that labels stand for."""
        ends = {(label.low, label.high) for label, _ in said if label.kind == "rating"}
        low, high = next(iter(ends)) if len(ends) == 1 else (None, None)
        worst = self.worst if self.worst is not None else low or 0.0
        best = self.best if self.best is not None else 1.0 if high is None else high
        return LabelScale(
            worst, best, self.rating or (0.0, 1.0), self.thumbs, self.metric, self.metric_unit, self.weights
        )


def load_labels(
    path: str | Path, options: LabelOptions | None = None, columns: Mapping[str, str] | None = None
) -> Ratings:
    """Load a table of labels of any kinds, or an exported journal.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file, one label a row (:mod:`bestfor.labels.rows` says what each kind
            needs), or what ``bestfor journal export`` wrote.
        options: scales and weights.
        columns: other names for the roles user, query, kind, value, text, over, texts, comment, weight, low, high, key
            and timestamp.

    Returns:
        Ratings whose ``said`` holds what each user said.

    Raises:
        InputError: a row that lacks what its kind needs (file, row and column are named), or nothing to learn from.
    """
    path, options = Path(path), options or LabelOptions()
    plain = LabelScale(rating=options.rating or (0.0, 1.0), weights=options.weights)
    read = read_labels(path, plain, columns or {}, declared=options.rating is not None)
    scale = options.scale(read.said)
    if any(label.kind == "edit" for label, _ in read.said):
        check_metric_of(scale)
    found = _Learned(_spellings(read.said))
    for one in read.said:
        found.add(one, scale)
    if not found.utilities:
        raise InputError(str(path), "no label that anything is learned from", "at least one beside comments")
    signature = f"{file_signature(path)}|labels|{scale}"
    table, comments = found.table()
    ratings = Ratings.build(table, name=path.stem, source=str(path), signature=signature)
    remarks = tuple((*key, words) for key, words in comments)
    notes = (*_notes(read, found, comments), *ratings.notes)
    return replace(ratings, said=found.said(), remarks=remarks, notes=notes)


def _spellings(said: Iterable[Said]) -> dict[str, str]:
    """Choose one spelling of texts and prompts that look alike, the shortest."""
    shown: dict[str, str] = {}
    for label, answer in said:
        known = () if answer is None else (answer.prompt, *answer.texts)
        for text in (label.prompt, *label.texts, *known):
            form = plain_form(text)
            shown[form] = min(shown.get(form, text), text, key=lambda one: (len(one), one))
    return shown


@dataclass
class _Learned:
    """Labels as they are gathered: what is learned of each, and the utilities that they give to texts.

    Attributes:
        spelled: the spelling of every text, by its plain form.
        rated: by user.
        preferred: by user.
        utilities: sums of weight times utility, and of weights, by user, prompt and text that was offered.
        times: when a text was first spoken of.
        words: comments with the user, the prompt and the text that they are about.
        missing: labels of hashed texts.
        labels: how many were learned.
    """

    spelled: Mapping[str, str]
    rated: dict[str, list[Rated]] = field(default_factory=dict)
    preferred: dict[str, list[Preferred]] = field(default_factory=dict)
    utilities: dict[Key, tuple[float, float]] = field(default_factory=dict)
    times: dict[Key, float] = field(default_factory=dict)
    words: list[tuple[Key, str]] = field(default_factory=list)
    missing: int = 0
    labels: int = 0

    def add(self, said: Said, scale: LabelScale) -> None:
        """Take a label in."""
        label, answer = said
        user = label.user
        if label.kind == "comment":
            about = label.texts[1] if len(label.texts) > 1 else "" if answer is None else answer.shown
            prompt = label.prompt if answer is None else answer.prompt
            self.words.append(((user, self._spell(prompt), self._spell(about)), next(iter(label.texts), "")))
            return
        records, missing = to_labels([said], scale)
        self.missing += missing
        self.labels += bool(len(records))
        written = set(label.texts) if label.kind == "edit" else set[str]()
        hidden = {self._spell(text) for text in written.difference(() if answer is None else answer.texts)}
        for one in records.rated:
            rated = replace(one, prompt=self._spell(one.prompt), text=self._spell(one.text))
            self.rated.setdefault(user, []).append(rated)
            self._count((user, rated.prompt, rated.text), rated.utility, rated.weight, label.time)
        for two in records.preferred:
            better, worse = self._spell(two.better), self._spell(two.worse)
            if better == worse:
                continue
            pair = replace(two, prompt=self._spell(two.prompt), better=better, worse=worse)
            self.preferred.setdefault(user, []).append(pair)
            for text, yes in ((better, True), (worse, False)):
                # What a person wrote themselves was no candidate.
                if text not in hidden:
                    self._count((user, pair.prompt, text), scale.thumb(yes), two.weight, label.time)

    def _spell(self, text: str) -> str:
        """Give texts that look alike one spelling."""
        return self.spelled[plain_form(text)]

    def _count(self, key: Key, utility: float, weight: float, time: float) -> None:
        total, weights = self.utilities.get(key, (0.0, 0.0))
        self.utilities[key] = total + weight * utility, weights + weight
        self.times[key] = np.fmin(self.times.get(key, float("nan")), time)

    def said(self) -> dict[str, Labels]:
        """Give what each user said."""
        users = sorted({*self.rated, *self.preferred})
        return {user: Labels(tuple(self.rated.get(user, ())), tuple(self.preferred.get(user, ()))) for user in users}

    def table(self) -> tuple[pa.Table, list[tuple[Key, str]]]:
        """Make the table of utilities, with the comments that are about its texts, and list all comments."""
        keys = list(self.utilities)
        words: dict[Key, str] = {}
        for key, text in self.words:
            words[key] = f"{words[key]} {text}" if key in words else text
        columns = {
            "user": [user for user, _, _ in keys],
            "query": [prompt for _, prompt, _ in keys],
            "text": [text for _, _, text in keys],
            "rating": np.array([total / weight for total, weight in self.utilities.values()]),
        }
        if words:
            columns["comment"] = [words.get(key, "") for key in keys]
        times = np.array([self.times[key] for key in keys])
        if np.isfinite(times).all():
            columns["timestamp"] = times
        return pa.table(columns), self.words


def _notes(read: ReadLabels, found: _Learned, comments: list[tuple[Key, str]]) -> tuple[str, ...]:
    """Say what was learned, and show some comments."""
    pairs = sum(map(len, found.preferred.values()))
    notes = [
        f"{found.labels} labels: utilities are what they say of a text, in the mean by weight; {pairs} preferences are "
        "learned as such by models that learn from people, and count as a thumb up and a thumb down elsewhere"
    ]
    for count, what in (
        (read.withdrawn, "were withdrawn and are left out"),
        (read.unknown, "are of kinds that this version does not know and are left out"),
        (found.missing, "are of texts that the journal holds as hashes: nothing is learned of them"),
    ):
        notes += [f"{count} labels {what}"] if count else []
    if comments:
        shown = "; ".join(f"{key[0]}: {words[:80]!r}" for key, words in sorted(comments)[:SHOWN])
        more = "" if len(comments) <= SHOWN else ", and others"
        notes.append(f"{len(comments)} comments are kept (labels.parquet), not learned: {shown}{more}")
    return tuple(notes)
