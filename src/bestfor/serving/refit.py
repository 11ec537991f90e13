"""Fit a model again on its run's labels and what people said since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Rated
from bestfor.errors import InputError
from bestfor.files import write_json
from bestfor.serving.base import REFIT_FILE, ServedModel, fit_rows, users_of
from bestfor.serving.labels import FindText, LabelScale, to_labels
from bestfor.serving.names import JOURNAL, model_name

if TYPE_CHECKING:
    from bestfor.serving.journal import Journal

WEAK = 0.25
"""Weight below which a label teaches its person alone: rows of a fit all weigh the same."""


@dataclass(frozen=True)
class Refitted:
    """A model that was fitted again.

    Attributes:
        folder: where it lies.
        base: rows of the run.
        learned: rows of the journal.
        people: people of the journal with such rows.
        left_out: users of the run who were forgotten.
        notes: plain sentences on labels that no fit takes.
    """

    folder: Path
    base: int
    learned: int
    people: int
    left_out: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Journal that a refit reads, and how.

    Attributes:
        journal: holds the labels.
        tenant: whose they are; no other tenant's are read.
        scale: how they become utilities.
        find: finds texts that are hashed.
    """

    journal: Journal
    tenant: str
    scale: LabelScale
    find: FindText


def refit(served: ServedModel, out: Path, source: Source, **options: Any) -> Refitted:  # noqa: ANN401 - of the kind
    """Fit a model of the same kind and options on the run's labels and the journal's, and store it.

    A kind that learns from what people say takes its journal again whenever a person is made. So that no label counts
    twice, and one that is withdrawn later counts no more, these rows are learned under a name beside the user's: they
    teach what people share. A kind that learns at fit alone takes them under the user's own name.

    Args:
        served: the model that is served.
        out: the new model's folder; one that is there is replaced, and its readers keep what they have opened.
        source: the journal.
        **options: ``encoder`` and ``cache``, as the kind takes them.

    Raises:
        InputError: nobody knows the run, or it has no row left.
    """
    if served.run is None:
        raise InputError("refit", "a model whose run nobody knows", "one that was opened from a run's folder")
    gone = source.journal.forgotten("", users_of(served.run))
    rows, seed = fit_rows(served.run, frozenset(gone))
    read = _read_journal(source, served.model.learns)
    said = read.rows
    if said:
        rows = _joined(rows, said)
    if not len(rows):
        raise InputError("refit", "no labels", "a run or a journal with some")
    notes = []
    if read.preferences:
        notes.append(f"{read.preferences} preferences are learned when a person is made, not by the fit")
    fresh = type(served.model)(served.model.config, **options)
    fresh.fit(rows, rng=rng.key(seed, "refit") if said else seed)
    fresh.save(out)
    record = {
        "run": str(served.run.resolve()),
        "journal": source.journal.name,
        "from": served.digest,
        "rows": {"run": len(rows) - len(said), "journal": len(said)},
        "learned": read.newest,
    }
    write_json(out / REFIT_FILE, record)
    return Refitted(out, len(rows) - len(said), len(said), read.people, len(gone), tuple(notes))


@dataclass(frozen=True)
class _FitLabels:
    """Rated texts of everybody in a journal.

    Attributes:
        rows: name for the fit and text.
        people: who have some.
        preferences: how many are no rows of a fit.
        newest: when the newest label came, in seconds since 1970; None where there is none.
    """

    rows: list[tuple[str, Rated]]
    people: int
    preferences: int
    newest: float | None


def _read_journal(source: Source, learns: bool) -> _FitLabels:
    """Read everybody's rated texts under the names that the fit gives them."""
    found: list[tuple[str, Rated]] = []
    people = preferences = 0
    times: list[float] = []
    for tenant, user in source.journal.people(source.tenant):
        forgotten = source.journal.standing(tenant, user).forgotten
        stored = source.journal.labels_of(tenant, user)
        times += [label.time for label, _ in stored]
        labels, _ = to_labels(stored, source.scale, source.find)
        name = model_name(tenant, user, forgotten=forgotten) + (JOURNAL if learns else "")
        rated = [(name, one) for one in sorted(labels.rated) if one.weight >= WEAK]
        found += rated
        people += bool(rated)
        preferences += len(labels.preferred)
    return _FitLabels(found, people, preferences, max(times, default=None))


def _joined(base: Candidates, said: list[tuple[str, Rated]]) -> Candidates:
    """Put the journal's rows behind those of a run; texts of one person and prompt are one query."""
    grouped: dict[tuple[str, str], dict[str, list[float]]] = {}
    for user, one in said:
        grouped.setdefault((user, one.prompt), {}).setdefault(one.text, []).append(one.utility)
    users, prompts = [user for user, _ in grouped], [prompt for _, prompt in grouped]
    texts = [[text for text, each in found.items() for _ in each] for found in grouped.values()]
    utilities = [[value for each in found.values() for value in each] for found in grouped.values()]
    more = Candidates.of(users, prompts, texts, utilities, query=[f"journal {n}" for n in range(len(users))])
    return _concatenate(base, more)


def _concatenate(first: Candidates, second: Candidates) -> Candidates:
    """Put rows behind rows, coded anew."""
    codes: dict[str, Any] = {}
    for name in ("users", "texts"):
        known = {value: code for code, value in enumerate(getattr(first, name))}
        for value in getattr(second, name):
            known.setdefault(value, len(known))
        codes[name] = known

    def behind(rows: str, values: str) -> np.ndarray:
        known = codes[values]
        moved = np.array([known[value] for value in getattr(second, values)], dtype=np.int64)
        return np.concatenate([getattr(first, rows), moved[getattr(second, rows)]])

    return Candidates(
        users=tuple(codes["users"]),
        queries=(*first.queries, *second.queries),
        inputs=(*first.inputs, *second.inputs),
        texts=tuple(codes["texts"]),
        user=behind("user", "users"),
        query=np.concatenate([first.query, second.query + len(first.queries)]),
        text=behind("text", "texts"),
        candidate=np.concatenate([first.candidate, second.candidate]),
        utility=np.concatenate([first.utility, second.utility]),
        logprob=np.concatenate([first.logprob, second.logprob]),
        history=first.history,
        comments=first.comments,
        said=first.said,
    )
