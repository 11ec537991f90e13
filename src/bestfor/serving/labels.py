"""Kinds of labels that people give, and what a reward model learns from each.

Every kind becomes records of two sorts (:class:`~bestfor.data.labels.Rated`, :class:`~bestfor.data.labels.Preferred`):

    rating r on low..high   utility  worst + (r - low) / (high - low) (best - worst)         of the text
    thumb yes, no           utility  worst + 3/4 or 1/4 of (best - worst): the middle of the half that it names
    kept, dismissed         as a thumb, of a small weight
    preference of k texts   k (k - 1) / 2 pairs of weight 2 / k each: k - 1 comparisons' worth
    edit from s to f        of every candidate c:  middle + slope (metric(c, f) - metric(c, s)), and f is preferred to s
    comment                 nothing: it is kept and shown

An edit starts from the shown text, so all that resembles it overlaps with the final text whatever the person thinks;
plain overlaps would confirm the last pick. What is learned is how much nearer the edit brought the text to each
candidate (``benchmarks/edits.py`` measures this against other ways). A final text that equals the shown one says no
more than that it was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any, TypedDict

import numpy as np

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.errors import InputError, nearest
from bestfor.files import hash_bytes
from bestfor.metrics import Query, make_metric
from bestfor.serving.journal.records import Label, LoggedAnswer
from bestfor.types import FloatArray

WEIGHTS: Mapping[str, float] = {
    "rating": 1.0,
    "thumb": 0.5,
    "preference": 1.0,
    "edit": 1.0,
    "kept": 0.1,
    "dismissed": 0.1,
    "comment": 0.0,
}
"""Precision of a label of each kind over that of an ordinary rating, where nothing else is declared."""

FindText = Callable[[str], str | None]
"""Finds a text by the SHA-256 that a journal keeps of it; None where nobody has it any more."""


class Statement(TypedDict, total=False):
    """Statement of a person on an answer or a text: exactly one of these.

    Attributes:
        rating: a number on the declared scale.
        thumb: yes or no.
        prefer: texts or indices of candidates, best first; a single one is preferred to the shown text.
        edit: what the person finally wrote.
        kept: True where the shown text was used as it was.
        dismissed: True where it was thrown away.
        comment: words, which are kept and shown, not learned from.
    """

    rating: float
    thumb: bool
    prefer: int | str | Sequence[int | str]
    edit: str
    kept: bool
    dismissed: bool
    comment: str


@dataclass(frozen=True)
class LabelScale:
    """Scale on which labels are read as utilities.

    Attributes:
        worst: utility of the lowest rating, in the units of the model's own labels.
        best: utility of the highest.
        rating: lowest and highest number that people give.
        thumbs: utilities of no and yes; None takes the middles of the lower and the upper half.
        metric: name of the metric that compares candidates with what a person finally wrote.
        metric_unit: utility of one unit of that metric; None takes ``best - worst``.
        weights: precision of a label of some kinds over that of a rating; the others have :data:`WEIGHTS`.
    """

    worst: float = 0.0
    best: float = 1.0
    rating: tuple[float, float] = (0.0, 1.0)
    thumbs: tuple[float, float] | None = None
    metric: str = "rougeL"
    metric_unit: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a scale that is empty or not finite, an unknown kind, or a weight below 0.
        """
        for name, (low, high) in {"scale": (self.worst, self.best), "scale.rating": self.rating}.items():
            if not (np.isfinite([low, high]).all() and low < high):
                raise InputError(name, f"{low} to {high}", "two finite numbers, the lower one first")
        for kind, weight in self.weights.items():
            if kind not in WEIGHTS:
                raise InputError("scale.weights", f"'{kind}'", nearest(kind, WEIGHTS))
            if not 0 <= weight < np.inf:
                raise InputError(f"scale.weights, {kind}", str(weight), "a finite number, 0 or more")

    def utility(self, share: float) -> float:
        """Utility at a share of the way from worst to best."""
        return self.worst + share * (self.best - self.worst)

    def thumb(self, yes: bool) -> float:
        """Utility of a text that a person likes, or does not."""
        return self.utility(0.75 if yes else 0.25) if self.thumbs is None else self.thumbs[int(yes)]

    def weight(self, kind: str) -> float:
        """Weight of a label of a kind."""
        return float(self.weights.get(kind, WEIGHTS[kind]))


@dataclass(frozen=True)
class LabelKind:
    """A kind of labels.

    Attributes:
        name: as it is typed.
        learned: whether models learn from it.
        read: checks what was said and gives the label's ``value`` and ``texts``.
        records: what is learned of a stored label.
    """

    name: str
    learned: bool
    read: Callable[[Any, str | None, LoggedAnswer | None, LabelScale], tuple[float | None, tuple[str, ...]]]
    records: Callable[[Label, LoggedAnswer | None, LabelScale], Labels]


def read_said(said: Statement) -> tuple[LabelKind, Any]:
    """Find the kind of what was said.

    Raises:
        InputError: nothing, several things, or an unknown one.
    """
    given = {name: value for name, value in said.items() if value is not None}
    unknown = next((name for name in given if name not in ALIASES), None)
    if unknown is not None:
        raise InputError("label", f"'{unknown}'", nearest(unknown, ALIASES))
    if len(given) != 1:
        found = f"{', '.join(given)} at once" if given else "nothing that was said"
        raise InputError("label", found, f"one of {', '.join(ALIASES)}")
    ((name, value),) = given.items()
    return KINDS[ALIASES[name]], value


def read_number(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a rating: a number on the declared scale.

    Raises:
        InputError: no number, or one outside the scale.
    """
    low, high = scale.rating
    if isinstance(said, bool) or not isinstance(said, int | float | np.number) or not low <= float(said) <= high:
        raise InputError("rating", f"{said!r}", f"a number from {low:g} to {high:g}, the declared scale")
    return float(said), (_about(text, answer),)


def read_yes(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a thumb: yes or no.

    Raises:
        InputError: neither.
    """
    if said not in (True, False, 0, 1) or isinstance(said, str):
        raise InputError("thumb", f"{said!r}", "True or False")
    return float(bool(said)), (_about(text, answer),)


def read_true(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a signal that is there or is not.

    Raises:
        InputError: anything but True.
    """
    if said is not True:
        raise InputError("kept or dismissed", f"{said!r}", "True (withdraw(key) takes it back)")
    return 1.0, (_about(text, answer),)


def read_ranking(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a preference: texts, best first.

    Raises:
        InputError: fewer than two texts, one text twice, or an index that no candidate has.
    """
    given = [said] if isinstance(said, str | int | np.integer) else list(said)
    texts = [_candidate(one, answer) for one in given]
    if len(texts) == 1 and (answer is not None or text is not None):
        texts.append(_about(text, answer))
    if len(texts) < 2:
        raise InputError("prefer", f"{len(texts)} texts", "two texts or more, best first")
    twice = next((one for place, one in enumerate(texts) if one in texts[:place]), None)
    if twice is not None:
        raise InputError("prefer", f"a text preferred to itself ('{twice[:40]}')", "texts that differ, best first")
    return None, tuple(texts)


def read_final(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read an edit: what the person finally wrote.

    Raises:
        InputError: no text, or no answer whose candidates are compared with it.
    """
    if answer is None:
        raise InputError("edit", "no answer", "the id of the answer that was edited")
    if not isinstance(said, str) or not said.strip():
        raise InputError("edit", "no text" if isinstance(said, str) else f"{said!r}", "what the person finally wrote")
    return None, (said,)


def read_words(said: Any, text: str | None, answer: LoggedAnswer | None, scale: LabelScale) -> Any:  # noqa: ANN401
    """Read a comment.

    Raises:
        InputError: no text.
    """
    if not isinstance(said, str) or not said:
        raise InputError("comment", f"{said!r}", "words")
    return None, (said,) if text is None and answer is None else (said, _about(text, answer))


def rated_number(label: Label, answer: LoggedAnswer | None, scale: LabelScale) -> Labels:
    """Learn a rating as a utility: numbers of its own scale on the way from worst to best."""
    low, high = label.low or 0.0, 1.0 if label.high is None else label.high
    share = ((label.value or 0.0) - low) / (high - low)
    return _rated(label, answer, scale.utility(share))


def rated_yes(label: Label, answer: LoggedAnswer | None, scale: LabelScale) -> Labels:
    """Learn a thumb, or a weak signal, as a utility."""
    return _rated(label, answer, scale.thumb(bool(label.value) and label.kind != "dismissed"))


def ranked(label: Label, answer: LoggedAnswer | None, scale: LabelScale) -> Labels:
    """Learn a ranking as its pairs, which together weigh as much as comparisons of neighbours."""
    weight, prompt = 2 * label.weight / len(label.texts), _prompt(label, answer)
    pairs = combinations(label.texts, 2)
    return Labels(preferred=tuple(Preferred(prompt, better, worse, weight) for better, worse in pairs))


def edited(label: Label, answer: LoggedAnswer | None, scale: LabelScale) -> Labels:
    """Learn an edit: how much nearer it came to each candidate, and that the final text is preferred to the shown."""
    if answer is None:
        return Labels()
    final, shown, weight = label.texts[0], answer.shown, label.weight
    if final == shown:
        return Labels((Rated(answer.prompt, shown, scale.thumb(True), scale.weight("kept")),))
    unit = scale.best - scale.worst if scale.metric_unit is None else scale.metric_unit
    texts = tuple(dict.fromkeys(answer.texts))
    nearer = _overlaps(scale.metric, final, texts) - _overlaps(scale.metric, shown, texts)
    utilities = scale.utility(0.5) + unit * nearer
    rated = tuple(Rated(answer.prompt, text, float(one), weight) for text, one in zip(texts, utilities, strict=True))
    return Labels(rated, (Preferred(answer.prompt, final, shown, weight),))


def nothing(label: Label, answer: LoggedAnswer | None, scale: LabelScale) -> Labels:
    """Learn nothing."""
    return Labels()


KINDS: Mapping[str, LabelKind] = {
    kind.name: kind
    for kind in (
        LabelKind("rating", True, read_number, rated_number),
        LabelKind("thumb", True, read_yes, rated_yes),
        LabelKind("preference", True, read_ranking, ranked),
        LabelKind("edit", True, read_final, edited),
        LabelKind("kept", True, read_true, rated_yes),
        LabelKind("dismissed", True, read_true, rated_yes),
        LabelKind("comment", False, read_words, nothing),
    )
}
"""Kinds of labels by the name under which a journal keeps them."""

ALIASES: Mapping[str, str] = {"prefer" if name == "preference" else name: name for name in KINDS}
"""Names of what is said (:class:`Statement`), and the kind that it is."""


def to_labels(
    said: Sequence[tuple[Label, LoggedAnswer | None]], scale: LabelScale, find: FindText = lambda known: None
) -> tuple[Labels, int]:
    """Turn stored labels into what a reward model learns.

    Args:
        said: labels with the answers that they are about; withdrawn ones are left out.
        scale: how they are read as utilities.
        find: finds the texts of those that are hashed.

    Returns:
        The records, and of how many labels nothing was learned because a text is not to be had.
    """
    rated: list[Rated] = []
    preferred: list[Preferred] = []
    missing = 0
    for label, answer in said:
        kind = KINDS.get(label.kind)
        if label.withdrawn is not None or kind is None or not kind.learned or not label.weight:
            continue
        with_texts = _unhashed(label, answer, find)
        if with_texts is None:
            missing += 1
            continue
        found = kind.records(*with_texts, scale)
        rated += found.rated
        preferred += found.preferred
    return Labels(tuple(rated), tuple(preferred)), missing


def hash_of(text: str) -> str:
    """Hash a text as a journal keeps it where texts may not be kept."""
    return hash_bytes(text.encode("utf-8", "surrogatepass"))


def _unhashed(label: Label, answer: LoggedAnswer | None, find: FindText) -> tuple[Label, LoggedAnswer | None] | None:
    """Find the texts of a label and of its answer; None where one is not to be had."""
    if label.hashed:
        texts, prompt = [find(one) for one in label.texts], find(label.prompt) if label.prompt else ""
        if prompt is None or None in texts:
            return None
        label = replace(label, texts=tuple(text for text in texts if text is not None), prompt=prompt, hashed=False)
    if answer is not None and answer.hashed:
        prompt = find(answer.prompt)
        # Only an edit looks at all candidates.
        found = [find(one) for one in answer.texts] if label.kind == "edit" else [""] * len(answer.texts)
        if prompt is None or None in found:
            return None
        texts = tuple(text for text in found if text is not None)
        answer = replace(answer, texts=texts, prompt=prompt, hashed=False)
    return label, answer


def _rated(label: Label, answer: LoggedAnswer | None, utility: float) -> Labels:
    return Labels((Rated(_prompt(label, answer), label.texts[0], utility, label.weight),))


def _prompt(label: Label, answer: LoggedAnswer | None) -> str:
    return label.prompt if answer is None else answer.prompt


def _about(text: str | None, answer: LoggedAnswer | None) -> str:
    """Give the text that is spoken of: the one that is named, or the one that was shown."""
    if isinstance(text, str):
        return text
    if text is not None:
        raise InputError("text", f"a value of type {type(text).__name__}", "the text that is spoken of")
    if answer is None:
        raise InputError("label", "no answer and no text", "an answer's id, or text=")
    return answer.shown


def _candidate(one: Any, answer: LoggedAnswer | None) -> str:  # noqa: ANN401 - what a caller gives
    """Give a text, or the candidate of an index."""
    if isinstance(one, str):
        return one
    count = 0 if answer is None else len(answer.texts)
    if isinstance(one, bool) or not isinstance(one, int | np.integer) or not 0 <= one < count or answer is None:
        raise InputError("prefer", f"{one!r}", f"a text, or an index of the answer's {count} candidates")
    return answer.texts[int(one)]


@lru_cache(maxsize=20_000)
def _overlaps(metric: str, final: str, texts: tuple[str, ...]) -> FloatArray:
    """Measure texts against a final one; a person is made anew after each label, an edit is measured once."""
    return _metric(metric).measure(Query("answer", "", "", final), texts)


def check_metric_of(scale: LabelScale) -> None:
    """Make the metric of a scale, so that what it lacks is known before anybody edits.

    Raises:
        InputError: an unknown metric.
        MissingExtraError: nor is what it is made of.
    """
    _metric(scale.metric)


@lru_cache(maxsize=8)
def _metric(name: str) -> Any:  # noqa: ANN401 - of another floor
    return make_metric(name, where="scale.metric")


def forget_texts() -> None:
    """Empty what is remembered of edits."""
    _overlaps.cache_clear()
