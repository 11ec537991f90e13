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
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.files import hash_bytes
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.labels.scale import LabelScale
from bestfor.metrics import Query, make_metric
from bestfor.types import FloatArray

FindText = Callable[[str], str | None]
"""Finds a text by the SHA-256 that a journal keeps of it; None where nobody has it any more."""


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


LEARNED: Mapping[str, Callable[[Label, LoggedAnswer | None, LabelScale], Labels]] = {
    "rating": rated_number,
    "thumb": rated_yes,
    "preference": ranked,
    "edit": edited,
    "kept": rated_yes,
    "dismissed": rated_yes,
    "comment": nothing,
}
"""What is learned of a stored label of each kind."""


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
        records = LEARNED.get(label.kind)
        if label.withdrawn is not None or records is None or records is nothing or not label.weight:
            continue
        with_texts = _unhashed(label, answer, find)
        if with_texts is None:
            missing += 1
            continue
        found = records(*with_texts, scale)
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
