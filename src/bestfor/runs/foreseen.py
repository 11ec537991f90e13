"""Foresee what a run would do, and why, from the steps' own hashes: nothing is sampled, fitted or written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bestfor.backends.place import Place
from bestfor.policies import make_policy
from bestfor.policies.base import Policy
from bestfor.pool import CandidatePool
from bestfor.runs.adapters import attach_adapters
from bestfor.runs.build import prompting_of, sampling_of
from bestfor.runs.config import RunConfig
from bestfor.runs.picks import best_model
from bestfor.runs.profiles import FOLDER as PROFILES
from bestfor.runs.profiles import ProfileWork, plan_profiles
from bestfor.runs.prompts import PromptedQueries, build_prompts
from bestfor.runs.sampling import Chunk, SamplingSettings, plan
from bestfor.runs.stages import Stages, folds
from bestfor.runs.steps import OWED, ForeseenStep, Steps
from bestfor.runs.workspace import SAMPLING, sampling_inputs
from bestfor.version import __version__


@dataclass(frozen=True)
class ForeseenSampling:
    """Candidates that a run wants, and those that are owed.

    Attributes:
        policy: writes them.
        settings: how many.
        prompted: the queries and their prompts.
        chunks: all parts of the pool, in order.
        owed: names of the parts that are not there.
        why: why they are owed; empty where none is.
        profiles: summaries of users that stand in the prompts; None where there are none.
    """

    policy: Policy
    settings: SamplingSettings
    prompted: PromptedQueries
    chunks: tuple[Chunk, ...]
    owed: frozenset[str]
    why: str
    profiles: ForeseenSampling | None = None

    @property
    def owed_chunks(self) -> list[Chunk]:
        """Parts that are owed, in order."""
        return [chunk for chunk in self.chunks if chunk.key in self.owed]

    def step(self) -> ForeseenStep:
        """Sampling as a step of the run."""
        why = f"{len(self.owed)} of {len(self.chunks)} parts are owed: {self.why}" if self.owed else ""
        return ForeseenStep(SAMPLING, bool(self.owed), why)


@dataclass(frozen=True)
class ForeseenFold:
    """Steps of one fold as they stand.

    Attributes:
        folder: the fold's.
        steps: in order.
        sampling: what it samples; None where the data bring the candidates.
        stages: of the fold, for whoever wants to know more.
    """

    folder: Path
    steps: tuple[ForeseenStep, ...]
    sampling: ForeseenSampling | None
    stages: Stages = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: folder, and of each step its name, whether it is owed and why."""
        steps = [{"step": one.name, "owed": one.owed, "why": one.why} for one in self.steps]
        return {"folder": str(self.folder), "steps": steps}


def foresee(config: RunConfig, out: str | Path, tell: Callable[[str], None] = lambda line: None) -> list[ForeseenFold]:
    """Say what a run would do if it were started now.

    Data are read and prompts are made, as these decide what is owed; a policy's tokenizer may be loaded for them.
    Nothing is written, but for embeddings of items where retrieval is dense and the run keeps some already.

    Args:
        config: the run.
        out: its folder, which need not be there.
        tell: called with one line of progress.

    Returns:
        One a fold.

    Raises:
        InputError: bad data, or a folder that holds the results of other data.
    """
    if config.backend.place:
        Place(config.backend.place, Path(out))  # known to be one, and not asked: this folder alone is looked at
    return [_foresee_fold(stages, Path(out)) for stages in folds(config, out, tell, foresee=True)]


def _foresee_fold(stages: Stages, out: Path) -> ForeseenFold:
    unwritten = stages.write_data().startswith(OWED)
    sampling = None
    if stages.data.candidates is None:
        sampling = foresee_sampling(stages)
        step = sampling.step()
        stages.steps.foreseen.append(step)
        if step.owed or unwritten:
            # a whole pool whose queries are not written down yet cannot be looked at either
            stages.owe("measured", "measure", f"after {step.name if step.owed else 'data'}")
    stages.measure()
    rewards = {table.label: stages.predict(table) for table in stages.config.reward}
    _foresee_answers(stages, out, rewards, stages.measure())
    return ForeseenFold(stages.folder, tuple(_once(stages.steps.foreseen)), sampling, stages)


def _once(steps: list[ForeseenStep]) -> list[ForeseenStep]:
    return list({step.name: step for step in steps}.values())


def foresee_sampling(stages: Stages) -> ForeseenSampling:
    """Plan the candidates of a fold, and look which are there."""
    config, data, steps = stages.config, stages.data, stages.steps
    # Embeddings are kept where the run keeps some; a folder that is not there is not made.
    prompting = prompting_of(config, data, stages.folder if (stages.folder / "embeddings").is_dir() else None)
    base = config.policy.base or config.policy
    policy = make_policy(base, "[policy.base]" if config.policy.base else "[policy]")
    pool, profiles = (
        CandidatePool(stages.folder / "pool"),
        plan_profiles(policy, config, data, prompting, stages.folder),
    )
    follows, described = "", None
    if profiles is not None:
        described = _foreseen_profiles(profiles)
        steps.foreseen.append(ForeseenStep(PROFILES, bool(described.owed), described.why))
        follows = _last_owed(steps)
        prompting = replace(prompting, profiles=profiles.read())
    settings = sampling_of(config, prompting)
    if config.policy.adapters is not None:
        adapted = attach_adapters(policy, config, data, prompting, steps)
        follows = _last_owed(steps)
        policy = policy if follows else adapted
    items, share = settings.fit_items, settings.fit_share
    prompted = build_prompts(policy, data.histories, data.queries, items, prompting, fit_share=share)
    chunks = tuple(plan(policy, prompted, settings))
    keys = [chunk.key for chunk in chunks]
    owed = set(keys) if follows else set(pool.missing(keys))
    if config.policy.feedback is not None:
        owed = _owed_with_feedback(pool, chunks, owed)
    why = f"after {follows}" if follows else _reason(steps, pool, sampling_inputs(data, policy, settings))
    return ForeseenSampling(policy, settings, prompted, chunks, frozenset(owed), why if owed else "", described)


def _foreseen_profiles(work: ProfileWork) -> ForeseenSampling:
    owed, why = work.owed, "never written" if not work.pool.folder.is_dir() else "not there yet"
    return ForeseenSampling(work.policy, work.settings, work.prompted, work.chunks, owed, why if owed else "")


def _last_owed(steps: Steps) -> str:
    last = steps.foreseen[-1]
    return last.name if last.owed else ""


def _owed_with_feedback(pool: CandidatePool, chunks: tuple[Chunk, ...], owed: set[str]) -> set[str]:
    """Find what is owed where a fitted model decides the test candidates: their keys are known once it is fitted."""
    fit = {chunk.key for chunk in chunks if chunk.key.startswith("fit-")}
    test = [chunk.key for chunk in chunks if chunk.key not in fit]
    if owed & fit:
        return set(owed)
    there = [key for key in pool.planned if key.startswith("test-")]
    left = len(test) - (len(there) - len(pool.missing(there)))
    return set(test[len(test) - max(left, 0) :])


def _reason(steps: Steps, pool: CandidatePool, inputs: dict[str, Any]) -> str:
    if not pool.folder.is_dir():
        return "never sampled"
    why = steps.reason(SAMPLING, inputs, [])
    return {"never done": "not there yet"}.get(why, why if why.endswith("changed") else "not there yet")


def _foresee_answers(stages: Stages, out: Path, rewards: dict[str, str], measured: str) -> None:
    """Foresee what is answered, which depends on the best model of the diagnosis: known where no reward is owed."""
    owed = [left[len(OWED) :] for left in rewards.values() if left.startswith(OWED)]
    label = "" if owed else _best(out)
    if not label:
        for name in ("pick", "answers"):
            stages.owe(name, name, f"after {owed[0]}" if owed else "never done")
        return
    inputs = {"model": label, "rewards": rewards[label], "measured": measured, "rule": "best"}
    stages.steps.run("pick", inputs, ["picks.parquet"], _nothing)
    stages.steps.run("answers", {**inputs, "version": __version__}, ["answers.json"], _nothing)


def _nothing() -> None:
    """Do nothing: a foreseen step is not done."""


def _best(folder: Path) -> str:
    try:
        return best_model(json.loads((folder / "diagnosis.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
