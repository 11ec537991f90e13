"""Fit a model again where a journal has grown, and let held-out labels decide whether it takes the old one's place.

A fifth of the prompts of each person is held out, all labels of a prompt together. A new model is fitted on the run's
labels and the other labels of the journal. Both models then make each person from those other labels and predict the
utilities of the held-out texts. The loss of a person is the mean of (prediction - utility)^2 / (best - worst)^2 over
them; one person counts like another, and the paired differences of people give the interval. The new model is taken
unless the 90 % interval lies above 0, that is, unless it is shown to be worse; it is then fitted on all labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from bestfor.files import hash_text, remove_unheld
from bestfor.labels.records import Label, LoggedAnswer
from bestfor.serving.base import ServedModel, open_model
from bestfor.serving.journal.records import Standing
from bestfor.serving.labels import to_labels
from bestfor.serving.names import model_name
from bestfor.serving.refit import Refitted, Source, refit

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

FEWEST = 5
"""People with held-out labels below which models cannot be compared."""
SHARE = 5
"""One prompt in so many is held out."""
NORMAL_90 = 1.6448536269514722
"""Half width of a 90 % interval, in standard errors of a normal variable."""

Decision = Literal["swapped", "kept"]


@dataclass(frozen=True)
class Renewal:
    """Decision on a model that was fitted again, and its reasons.

    Attributes:
        decision: ``swapped`` where the new model takes the place of the old one, else ``kept``.
        reason: why, in a plain sentence.
        people: people with held-out labels.
        labels: held-out texts with a utility.
        loss_before: mean loss of the present model, in squared shares of the scale; None where nobody was compared.
        loss_after: mean loss of the new one.
        difference: new minus present.
        low: lower end of the 90 % interval of the difference.
        high: upper end.
        folder: the new model's folder; None where it was not kept.
        rows: rows of the run and of the journal that it was fitted on.
        notes: plain sentences on labels that no fit takes.
    """

    decision: Decision
    reason: str
    people: int
    labels: int
    loss_before: float | None = None
    loss_after: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    folder: str | None = None
    rows: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Write it as plain values for JSON."""
        return asdict(self)


def renew(
    present: ServedModel,
    out: Path,
    source: Source,
    *,
    replaces: bool = False,
    **options: Any,  # noqa: ANN401 - of the kind
) -> Renewal:
    """Fit a model again, compare it with the present one, and keep it unless it is shown to be worse.

    Args:
        present: the model that is served.
        out: folder of the new model, which is there afterwards only where it is taken.
        source: the journal, and how its labels are read.
        replaces: whether it is taken whatever the losses say, since the present one holds somebody who was forgotten.
        **options: ``encoder`` and ``cache``, as the kind takes them.

    Returns:
        The decision with its figures.

    Raises:
        InputError: nobody knows the run of the model, or there are no labels.
    """
    trial = out.with_name(f"{out.name}-trial")
    others = replace(source, journal=cast("Journal", JournalPart(source.journal, held_out=False)))
    refit(present, trial, others, **options)
    try:
        fresh = open_model(trial, **options)
        losses, count = _losses(present, fresh, source)
    finally:
        remove_unheld(trial)
    found = _decide(losses, count)
    if replaces:
        found = replace(
            found, decision="swapped", reason=f"somebody was forgotten since the last refit; {found.reason}"
        )
    if found.decision == "kept":
        return found
    done: Refitted = refit(present, out, source, **options)
    return replace(found, folder=str(out), rows=(done.base, done.learned), notes=done.notes)


def is_held_out(tenant: str, user: str, prompt: str) -> bool:
    """Tell whether what a person said of a prompt is held out; depends on nothing but the three."""
    return int(hash_text(f"{tenant}\x1f{user}\x1f{prompt}")[:8], 16) % SHARE == 0


class JournalPart:
    """A journal of which only the held-out labels are seen, or only the others.

    Args:
        journal: the whole one.
        held_out: which part.
    """

    def __init__(self, journal: Journal, *, held_out: bool) -> None:
        self._journal, self._held_out = journal, held_out
        self.name = journal.name

    def people(self, tenant: str | None = None) -> Iterator[tuple[str, str]]:
        """List everybody known."""
        return self._journal.people(tenant)

    def forgotten(self, tenant: str, users: list[str]) -> set[str]:
        """Tell which of some users were forgotten."""
        return self._journal.forgotten(tenant, users)

    def standing(self, tenant: str, user: str) -> Standing:
        """Read what is known of a person's standing."""
        return self._journal.standing(tenant, user)

    def labels_of(self, tenant: str, user: str) -> list[tuple[Label, LoggedAnswer | None]]:
        """Read the labels of a person that belong to this part."""
        return [
            (label, answer)
            for label, answer in self._journal.labels_of(tenant, user)
            if is_held_out(tenant, user, label.prompt if answer is None else answer.prompt) == self._held_out
        ]


def _losses(present: ServedModel, fresh: ServedModel, source: Source) -> tuple[np.ndarray, int]:
    """Losses of people with held-out labels under the present and the new model, shape (people, 2); count of texts."""
    losses: list[list[float]] = []
    count = 0
    seen, unseen = (JournalPart(source.journal, held_out=held_out) for held_out in (False, True))
    width = source.scale.best - source.scale.worst
    for tenant, user in source.journal.people(source.tenant):
        held, _ = to_labels(unseen.labels_of(tenant, user), source.scale, source.find)
        if not held.rated:
            continue
        known, _ = to_labels(seen.labels_of(tenant, user), source.scale, source.find)
        name = model_name(tenant, user, forgotten=source.journal.standing(tenant, user).forgotten)
        people = [served.model.person(name, known) for served in (present, fresh)]
        prompts = sorted({one.prompt for one in held.rated})
        errors: list[list[float]] = [[], []]
        for prompt in prompts:
            about = [one for one in held.rated if one.prompt == prompt]
            texts = list(dict.fromkeys(one.text for one in about))
            wanted = np.array([np.mean([one.utility for one in about if one.text == text]) for text in texts])
            for person, each in zip(people, errors, strict=True):
                mean = np.asarray(person.score(prompt, texts).mean, dtype=np.float64)
                each += (((mean - wanted) / width) ** 2).tolist()
        losses.append([float(np.mean(each)) for each in errors])
        count += len(errors[0])
    return np.array(losses, dtype=np.float64).reshape(-1, 2), count


def _decide(losses: np.ndarray, count: int) -> Renewal:
    people = len(losses)
    if people < FEWEST:
        reason = f"{people} people have held-out labels; {FEWEST} are needed to compare"
        return Renewal("kept", reason, people, count)
    before, after = losses.mean(axis=0)
    paired = losses[:, 1] - losses[:, 0]
    half = NORMAL_90 * float(paired.std(ddof=1)) / np.sqrt(people)
    mean = float(paired.mean())
    worse = mean - half > 0
    reason = "shown to be worse on held-out labels" if worse else "not shown to be worse on held-out labels"
    values = (float(before), float(after), mean, mean - half, mean + half)
    return Renewal("kept" if worse else "swapped", reason, people, count, *values)
