"""Read what other people said of the very texts that are scored, as a reward model takes it.

Each person has one word on a text: their weightiest label of it, the newest among equals. Who was forgotten and came
back is a stranger to the model, and what was said of answers that were given to nobody counts as little here as for
that nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bestfor.data.labels import Labels, Rated
from bestfor.serving.base import ServedModel
from bestfor.serving.journal import AskedTexts, Label, SaidOfText
from bestfor.serving.labels import LabelScale, to_labels
from bestfor.serving.names import NOBODY, model_name

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal


def labels_of_others(
    journal: Journal, asked: AskedTexts, scale: LabelScale, served: ServedModel, most: int
) -> dict[str, Labels]:
    """Read the labels of other people, by the names under which the model knows them.

    Args:
        journal: holds them.
        asked: the texts, and who is left out.
        scale: how they are read as utilities.
        served: the model; nothing is read for one that does not hear others, nor what its fit has learned.
        most: labels of each text that are looked at, the newest ones; 0 for none.
    """
    if not (most and served.model.hears):
        return {}
    words: dict[tuple[str, int], SaidOfText] = {}
    for one in journal.said_by_others(asked, most, served.learned):
        if one.user.startswith(NOBODY) or not one.weight > 0:
            continue
        rater = model_name(asked.tenant, one.user, forgotten=one.forgotten)
        known = words.get((rater, one.place))
        if known is None or (one.weight, one.time, one.kind) > (known.weight, known.time, known.kind):
            words[rater, one.place] = one
    found: dict[str, list[Rated]] = {}
    for (rater, place), one in words.items():
        label = Label(
            "",
            rater,
            one.kind,
            value=one.value,
            low=one.low,
            high=one.high,
            texts=(asked.texts[place],),
            prompt=asked.prompt,
            weight=one.weight,
        )
        found.setdefault(rater, []).extend(to_labels([(label, None)], scale)[0].rated)
    return {rater: Labels(tuple(rated)) for rater, rated in found.items()}


def heard_notes(others: Mapping[str, Labels]) -> tuple[str, ...]:
    """Say how much of what others said counted; nothing where there was nothing."""
    count = sum(len(labels.rated) for labels in others.values())
    if not count:
        return ()
    ratings = "1 rating" if count == 1 else f"{count} ratings"
    whom = "1 other person" if len(others) == 1 else f"{len(others)} other people"
    return (f"{ratings} of these very texts by {whom} counted",)
