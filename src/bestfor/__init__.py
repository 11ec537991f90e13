"""Personalize answers at test time: sample N, answer with the one the user would pick, diagnose whether it pays."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bestfor import moved
from bestfor.version import __version__ as __version__

moved.install()

# Name -> module that holds it (and its name there, where that is another). Loaded at first use: the import stays light
# and needs no optional package.
_FACE = {
    "BestforError": "bestfor.errors",
    "CandidatePool": "bestfor.pool",
    "Candidates": "bestfor.data.candidates",
    "Diagnosis": "bestfor.diagnostics",
    "Estimate": "bestfor.types",
    "InputError": "bestfor.errors",
    "OpenAIPolicy": "bestfor.policies.openai",
    "Pick": "bestfor.selection",
    "Reward": "bestfor.diagnostics",
    "RewardEstimate": "bestfor.types",
    "RunConfig": "bestfor.runs.config",
    "Scores": "bestfor.types",
    "Service": "bestfor.serving.service",
    "Settings": "bestfor.diagnostics",
    "TableColumns": "bestfor.runs.table",
    "TransformersPolicy": "bestfor.policies.transformers",
    "diagnose_arrays": "bestfor.diagnostics",
    "diagnose_table": "bestfor.runs.table",
    "generate": "bestfor.runs.study",
    "load": "bestfor.runs.study",
    "load_config": "bestfor.runs.config",
    "load_model": "bestfor.rewards",
    "load_run": "bestfor.runs.opened",
    "measure": "bestfor.runs.study",
    "parse_config": "bestfor.runs.config",
    "rule_curve": "bestfor.diagnostics",
    "run": "bestfor.runs.run",
    "select": "bestfor.selection",
    "split_ratings": "bestfor.data.split",
    "write_html": "bestfor.report",
}

__all__ = [
    "BestforError",
    "CandidatePool",
    "Candidates",
    "Diagnosis",
    "Estimate",
    "InputError",
    "OpenAIPolicy",
    "Pick",
    "Reward",
    "RewardEstimate",
    "RunConfig",
    "Scores",
    "Service",
    "Settings",
    "TableColumns",
    "TransformersPolicy",
    "diagnose_arrays",
    "diagnose_table",
    "generate",
    "load",
    "load_config",
    "load_model",
    "load_run",
    "measure",
    "parse_config",
    "rule_curve",
    "run",
    "select",
    "split_ratings",
    "write_html",
]

if TYPE_CHECKING:
    from bestfor.data.candidates import Candidates
    from bestfor.data.split import split_ratings
    from bestfor.diagnostics import Diagnosis, Reward, Settings, diagnose_arrays, rule_curve
    from bestfor.errors import BestforError, InputError
    from bestfor.policies.openai import OpenAIPolicy
    from bestfor.policies.transformers import TransformersPolicy
    from bestfor.pool import CandidatePool
    from bestfor.report import write_html
    from bestfor.rewards import load_model
    from bestfor.runs.config import RunConfig, load_config, parse_config
    from bestfor.runs.opened import load_run
    from bestfor.runs.run import run
    from bestfor.runs.study import generate, load, measure
    from bestfor.runs.table import TableColumns, diagnose_table
    from bestfor.selection import Pick, select
    from bestfor.serving.service import Service
    from bestfor.types import Estimate, RewardEstimate, Scores


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any of the names above)
    if name in _FACE:
        module, _, other = _FACE[name].partition(":")
        return getattr(importlib.import_module(module), other or name)
    renamed = {"load_encoder": "encoders:load_encoder", "load_reward": "rewards:load_model"}
    return moved.renamed(__name__, renamed, depth=3)(name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
