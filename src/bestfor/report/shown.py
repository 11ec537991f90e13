"""Take a diagnosis in any form, and order its models for readers: baselines last and quiet, the best one first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.result import Comparison, ModelDiagnosis
from bestfor.diagnostics.words import reworded
from bestfor.errors import InputError
from bestfor.report import words
from bestfor.rewards.kinds import KINDS

Given = Diagnosis | Mapping[str, Any] | str | Path
"""A diagnosis, the object of its JSON, a file ``diagnosis.json`` or the folder of a run."""

NAIVE = frozenset({"random", "constant", "baseline", "first", "shortest", "longest"})
"""What tables call rewards that learn nothing, beside kinds that say so: drawn quietly, never the headline model."""


@dataclass(frozen=True)
class ShownModel:
    """A model with its place in a report.

    Attributes:
        name: as in the diagnosis.
        index: its colour and its anchor.
        quiet: whether it is a baseline.
        found: what is known of it.
        utility: name of the utility that its gains are in.
    """

    name: str
    index: int
    quiet: bool
    found: ModelDiagnosis
    utility: str = "utility"

    @property
    def n(self) -> tuple[int, ...]:
        """Values of N of its curves."""
        return tuple(self.found.utility.n.tolist())


def open_diagnosis(given: Given) -> Diagnosis:
    """Take a diagnosis as it is or read it, and write its sentences anew.

    Raises:
        InputError: it is no diagnosis.
    """
    if isinstance(given, str | Path):
        given = Diagnosis.read(given)
    return reworded(given if isinstance(given, Diagnosis) else Diagnosis.from_dict(given))


def shown_models(diagnosis: Diagnosis) -> tuple[ShownModel, ...]:
    """Order the models of a diagnosis as given, baselines last."""
    quiet = {name: _learns_nothing(name, model) for name, model in diagnosis.models.items()}
    names = sorted(quiet, key=lambda name: quiet[name])
    utility = utility_in_words(diagnosis)
    return tuple(ShownModel(name, at, quiet[name], diagnosis.models[name], utility) for at, name in enumerate(names))


def first_shown(models: Sequence[ShownModel]) -> ShownModel | None:
    """Choose the model shown first: the largest captured share at the largest N, baselines where nothing else is."""
    loud = [model for model in models if not model.quiet] or list(models)
    return max(loud, key=_captured, default=None)


def choose_model(diagnosis: Diagnosis, name: str | None = None) -> ShownModel:
    """Find a model by name, or the one that is shown first where None.

    Raises:
        InputError: there is no such model, or none at all.
    """
    models = shown_models(diagnosis)
    found = first_shown(models) if name is None else next((model for model in models if model.name == name), None)
    if found is None:
        raise InputError("report", f"no model '{name}'" if name else "no models", "one of its models")
    return found


def decisive(diagnosis: Diagnosis) -> tuple[Comparison, ...]:
    """List the first (that is, the best) model's comparisons that have a value, at the largest N among them."""
    known = [pair for pair in diagnosis.comparisons if not math.isnan(pair.difference.value)]
    known = [pair for pair in known if pair.model == known[0].model]
    largest = max((pair.n for pair in known), default=0)
    return tuple(pair for pair in known if pair.n == largest)


POLICIES = {
    "human": "texts written by people",
    "base": "candidates by one language model for everybody",
    "embedded": "candidates by the language model that comes with bestfor",
}
"""What wrote the candidates, in words, where its name says little."""

UNITS = {
    "absolute_error": "0 is no error",
    "bleu": "0 to 1",
    "chrf": "0 to 1",
    "embedding": "cosine",
    "exact": "0 or 1",
    "judge": "in the judge's points",
    "meteor": "0 to 1",
    "rating": "in points",
    "taste": "\N{MINUS SIGN}1 to 1",
    **{f"rouge{order}{kind}": "0 to 1" for order in "12L" for kind in ("", "_unicode")},
}
"""Ranges or units of the metrics that come with bestfor."""


def policy_in_words(diagnosis: Diagnosis) -> str:
    """Say what wrote the candidates; empty where that is not known."""
    policy = diagnosis.signature.get("policy")
    if not policy:
        return ""
    name = policy.get("model") or policy.get("kind") if isinstance(policy, Mapping) else policy
    return POLICIES.get(str(name), f"candidates by {words.clean(str(name))}") if name else ""


def facts_in_words(diagnosis: Diagnosis, *, data: str = "", date: str = "") -> tuple[str, ...]:
    """List what was measured, in words: how much, which data, what wrote the candidates, and when.

    The utility is among them where the line on gains does not name it.

    Args:
        diagnosis: any.
        data: which data, in words; empty where that is not known.
        date: when, likewise.
    """
    unit, name = unit_in_words(diagnosis), words.clean(_measure(diagnosis))
    utility = f"utility: {name}{f' ({unit})' if unit else ''}" if name and not gains_in_words(diagnosis) else ""
    facts = (
        words.plural(diagnosis.users, "user"),
        words.plural(diagnosis.queries, "query", "queries"),
        words.plural(diagnosis.candidates, "candidate"),
        f"mean of {len(diagnosis.folds)} folds" if diagnosis.folds else "",
        words.clean(data),
        policy_in_words(diagnosis),
        utility,
        words.clean(date),
    )
    return tuple(fact for fact in facts if fact)


def gains_in_words(diagnosis: Diagnosis) -> str:
    """Say what the two figures of a headline are; empty where it has none."""
    if " of " not in diagnosis.headline or not diagnosis.models:
        return ""
    known = (f"`{words.clean(_measure(diagnosis))}`" if _measure(diagnosis) else "", unit_in_words(diagnosis))
    named = ", ".join(one for one in known if one)
    return (
        f"Gain in utility{f' ({named})' if named else ''} over a random candidate, of the headroom: what a perfect "
        "picker of as many candidates would gain."
    )


def utility_in_words(diagnosis: Diagnosis) -> str:
    """Name the utility as its column or metric is named; ``"utility"`` where that is not known."""
    return words.clip(words.clean(_measure(diagnosis) or "utility"), 24)


def unit_in_words(diagnosis: Diagnosis) -> str:
    """Say the range or the unit of a utility that bestfor measures; empty where that is not known."""
    return UNITS.get(_measure(diagnosis), "") if "metric" in diagnosis.signature else ""


def _measure(diagnosis: Diagnosis) -> str:
    name = diagnosis.signature.get("utility") or diagnosis.signature.get("metric")
    return name if isinstance(name, str) else ""


def shared_notes(models: Sequence[ShownModel]) -> tuple[str, ...]:
    """List the notes that all of several models have: they are about the data, not about a model."""
    if len(models) < 2:
        return ()
    return tuple(note for note in models[0].found.notes if all(note in model.found.notes for model in models))


def own_notes(model: ShownModel, shared: Sequence[str]) -> tuple[str, ...]:
    """List a model's notes without those that all have."""
    return tuple(note for note in model.found.notes if note not in shared)


def _captured(model: ShownModel) -> float:
    value = model.found.captured.value[-1] if model.n else math.nan
    return -math.inf if math.isnan(value) else float(value)


def _learns_nothing(name: str, model: ModelDiagnosis) -> bool:
    known = name.lower()
    return model.baseline or known in NAIVE or (known in KINDS.builtin and KINDS[known].baseline)
