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
    """A model with its place in a report: ``index`` is its colour and its anchor, ``quiet`` ones are baselines."""

    name: str
    index: int
    quiet: bool
    found: ModelDiagnosis

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
    return tuple(ShownModel(name, place, quiet[name], diagnosis.models[name]) for place, name in enumerate(names))


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


POLICIES = {"human": "texts written by people", "base": "sampled by one model for everybody"}
"""What wrote the candidates, in words, where its name says little."""


def policy_in_words(diagnosis: Diagnosis) -> str:
    """Say what wrote the candidates; empty where that is not known."""
    policy = diagnosis.signature.get("policy")
    if not policy:
        return ""
    name = policy.get("model") if isinstance(policy, Mapping) else policy
    if name == "embedded":
        return "candidates by the shipped model"
    return POLICIES.get(str(name), f"candidates by {words.clip(str(name), 40)}") if name else ""


def utility_in_words(diagnosis: Diagnosis) -> str:
    """Name the utility as its column or metric is named; ``"utility"`` where that is not known."""
    name = diagnosis.signature.get("utility")
    return words.clip(words.clean(str(name)), 24) if isinstance(name, str) and name else "utility"


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
