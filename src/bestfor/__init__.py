"""bestfor: sample N, answer with the one this user would pick, and know beforehand whether it pays."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> module that holds it (and its name there, where that is another). Loaded at first use: the import stays light
# and needs no optional package.
_FACE = {
    "BestforError": "bestfor.errors",
    "CandidatePool": "bestfor.pool",
    "Diagnosis": "bestfor.diagnostics",
    "Estimate": "bestfor.types",
    "InputError": "bestfor.errors",
    "OpenAIPolicy": "bestfor.policies.openai",
    "Reward": "bestfor.diagnostics",
    "RewardEstimate": "bestfor.types",
    "RunConfig": "bestfor.pipeline.config",
    "Scores": "bestfor.pipeline.scores",
    "Settings": "bestfor.diagnostics",
    "TransformersPolicy": "bestfor.policies.transformers",
    "diagnose_arrays": "bestfor.diagnostics",
    "diagnose_table": "bestfor.pipeline.scores",
    "generate": "bestfor.pipeline.study",
    "load": "bestfor.pipeline.study",
    "load_config": "bestfor.pipeline.config",
    "load_encoder": "bestfor.encoders.sentence",
    "load_reward": "bestfor.rewards:load",
    "measure": "bestfor.pipeline.study",
    "parse_config": "bestfor.pipeline.config",
    "rule_curve": "bestfor.diagnostics",
    "run": "bestfor.pipeline.run",
    "split_ratings": "bestfor.data.split",
    "write_html": "bestfor.report",
}

__all__ = [
    "BestforError",
    "CandidatePool",
    "Diagnosis",
    "Estimate",
    "InputError",
    "OpenAIPolicy",
    "Reward",
    "RewardEstimate",
    "RunConfig",
    "Scores",
    "Settings",
    "TransformersPolicy",
    "diagnose_arrays",
    "diagnose_table",
    "generate",
    "load",
    "load_config",
    "load_encoder",
    "load_reward",
    "measure",
    "parse_config",
    "rule_curve",
    "run",
    "split_ratings",
    "write_html",
]

if TYPE_CHECKING:
    from bestfor.data.split import split_ratings
    from bestfor.diagnostics import Diagnosis, Reward, Settings, diagnose_arrays, rule_curve
    from bestfor.encoders.sentence import load_encoder
    from bestfor.errors import BestforError, InputError
    from bestfor.pipeline.config import RunConfig, load_config, parse_config
    from bestfor.pipeline.run import run
    from bestfor.pipeline.scores import Scores, diagnose_table
    from bestfor.pipeline.study import generate, load, measure
    from bestfor.policies.openai import OpenAIPolicy
    from bestfor.policies.transformers import TransformersPolicy
    from bestfor.pool import CandidatePool
    from bestfor.report import write_html
    from bestfor.rewards import load as load_reward
    from bestfor.types import Estimate, RewardEstimate


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any of the names above)
    if name in _FACE:
        module, _, other = _FACE[name].partition(":")
        return getattr(importlib.import_module(module), other or name)
    raise AttributeError(f"module 'bestfor' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
