"""Sample a run's test candidates with textual feedback: the reward model that gives it is fitted first.

    fit queries --base policy--> candidates --primary metric--> utilities --fit--> the model whose verdicts are heard
    test queries --base policy, critiques, revisions--> candidates

Fit queries get no feedback: there is nobody yet to give it. The model lies in the run's folder ``feedback``, and its
content is part of the keys of the test candidates, so another model never continues their pool. The run's own model of
that name is the same one, so it is copied and not fitted again.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.data.split import Dataset
from bestfor.data.states import with_text
from bestfor.errors import InputError
from bestfor.files import writing_folder
from bestfor.policies import make_policy
from bestfor.policies.feedback import FeedbackPolicy
from bestfor.pool import CandidatePool, content_hash
from bestfor.rewards import RewardModel, kind_class, load
from bestfor.runs.build import backend_of, metric_names, metrics_of, prompting_of, sampling_of
from bestfor.runs.config import FeedbackTable, PolicyTable, RewardTable, RunConfig
from bestfor.runs.joins import align, build_history, build_parts, scorer
from bestfor.runs.measuring import Measuring, measure
from bestfor.runs.outcomes import check_pool
from bestfor.runs.profiles import attach_profiles
from bestfor.runs.prompts import build_prompts
from bestfor.runs.sampling import Chunk, plan, sample_owed
from bestfor.runs.steps import Steps, digest
from bestfor.runs.usage import MeteredModel, record_usage
from bestfor.version import __version__

FOLDER = "feedback"


def sample_with_feedback(config: RunConfig, data: Dataset, steps: Steps) -> str:
    """Sample what is owed of a run with ``[policy] kind = "feedback"``, and write the table of queries.

    Returns:
        The pool's hash.

    Raises:
        InputError: nobody has a labelled candidate, or the model compares candidates with each other.
        BestforError: a server did not give all candidates; what came is kept, and the next call goes on.
    """
    table, feedback = _tables(config)
    folder, tell = steps.folder, steps.tell
    spec = next(reward for reward in config.reward if reward.label == feedback.reward)
    base, prompting = make_policy(table, "[policy.base]"), prompting_of(config, data, steps.folder)
    prompting = attach_profiles(base, config, data, prompting, steps, backend=backend_of(config))
    settings = sampling_of(config, prompting)
    items, share = settings.fit_items, settings.fit_share
    prompted = build_prompts(base, data.histories, data.queries, items, prompting, fit_share=share)
    pool = CandidatePool(folder / "pool")
    plain = plan(base, prompted, settings)
    fit = [chunk for chunk in plain if chunk.key.startswith("fit-")]
    keys = [chunk.key for chunk in fit]
    if not set(keys) <= set(pool.planned):
        pool.plan(keys, prompted.counts)
    with ExitStack() as stack:
        stack.enter_context(record_usage(folder, "policy", base, tell))
        sample_owed(base, fit, pool, settings, tell=tell, backend=backend_of(config))
        schema.write(prompted.queries, folder / "queries.parquet")
        model, identity = _fit(config, data, prompted.queries, fit, spec, steps)
        stack.enter_context(record_usage(folder, f"reward {spec.label}", model, tell, remember=False))
        score = scorer(model, prompted.queries, build_history(data.histories, prompted.queries))
        options = feedback.model_dump(exclude={"reward"})
        policy = FeedbackPolicy(base, score, f"{spec.label} {identity}", **options)
        test = [chunk for chunk in plan(policy, prompted, settings) if chunk.key.startswith("test-")]
        pool.plan([*keys, *(chunk.key for chunk in test)], prompted.counts)
        sample_owed(policy, test, pool, settings, tell=tell)
        check_pool(policy, pool, [*keys, *(chunk.key for chunk in test)], prompted.notes, tell)
        for note in policy.notes:
            tell(f"policy: {note}")
    return pool.digest


def _tables(config: RunConfig) -> tuple[PolicyTable, FeedbackTable]:
    base, feedback = config.policy.base, config.policy.feedback
    if base is None or feedback is None:
        raise InputError("[policy]", "no tables [policy.base] and [policy.feedback]", "both, for kind 'feedback'")
    return base, feedback


def _fit(
    config: RunConfig, data: Dataset, queries: pa.Table, fit: list[Chunk], spec: RewardTable, steps: Steps
) -> tuple[RewardModel, str]:
    """Fit the model on the fit part of the pool, or read it where it is there; returns it and its content hash."""
    folder, cache = steps.folder / FOLDER, steps.folder / "embeddings"
    parts = [CandidatePool(steps.folder / "pool").read(chunk.key) for chunk in fit]
    found = [part for part in parts if part is not None]
    candidates = with_text(pa.concat_tables(found or [schema.CANDIDATES.empty_table()]))
    measured = _measure(config, data, queries, candidates, steps)

    def work() -> None:
        utilities = schema.read(folder / "utilities.parquet", schema.UTILITIES)
        examples = build_parts(queries, candidates, utilities, build_history(data.histories, queries)).fit
        if len(examples) == 0:
            raise InputError(str(steps.folder), "no labelled candidates to fit on", "at least one")
        model = kind_class(spec.kind)(cache=cache, **spec.options)
        with record_usage(steps.folder, f"reward {spec.label}", model, steps.tell, remember=False):
            model.fit(examples, rng=config.seed).save(folder / "model")

    identity = steps.run(f"feedback: fit {spec.label}", _inputs(config, spec, measured), [f"{FOLDER}/model"], work)
    model = load(folder / "model", cache=cache, kinds=[kind_class(spec.kind)])
    if isinstance(model, MeteredModel):
        # A model on disk does not hold the credentials of its server's address.
        model.reach(spec.options.get("endpoint", {}))
    return model, identity


def _measure(config: RunConfig, data: Dataset, queries: pa.Table, candidates: pa.Table, steps: Steps) -> str:
    """Measure the primary metric on the fit part; returns the hash of the table."""
    name = config.utility.primary or metric_names(config, data)[0]
    (metric,) = metrics_of(config, (name,), steps.folder)
    inputs = {"candidates": content_hash(candidates), "queries": content_hash(queries), "metric": metric.signature}
    path = steps.folder / FOLDER / "utilities.parquet"

    def work() -> None:
        partial = path.with_name(".utilities.partial")
        how = Measuring(config.utility.workers, None, partial, digest(inputs))
        with record_usage(steps.folder, metric.name, metric, steps.tell):
            schema.write(measure(candidates, queries, metric, how), path)
        partial.unlink(missing_ok=True)

    return steps.run("feedback: measure", inputs, [f"{FOLDER}/utilities.parquet"], work)


def _inputs(config: RunConfig, spec: RewardTable, measured: str) -> dict[str, Any]:
    """Collect all that decides the model whose verdicts are heard."""
    inputs = {"measured": measured, "kind": spec.kind, "options": spec.options, "seed": config.seed}
    return {**inputs, "version": __version__}


def take_fitted(config: RunConfig, spec: RewardTable, fit: Candidates, steps: Steps, path: Path) -> bool:
    """Copy the model whose verdicts were heard, where it is the one that a fit would give again.

    Args:
        config: the run.
        spec: the model that is to be fitted.
        fit: the run's labelled fit part.
        steps: of the run.
        path: where the model shall lie.

    Returns:
        Whether it was copied: not where the run has no feedback or hears another model, where options have changed
        since, or where the labels are others.
    """
    feedback, name = config.policy.feedback, f"{FOLDER}/utilities.parquet"
    if feedback is None or feedback.reward != spec.label or not (steps.folder / name).is_file():
        return False
    inputs = _inputs(config, spec, steps.hash([name]))
    if not steps.left(f"feedback: fit {spec.label}", inputs, [f"{FOLDER}/model"]):
        return False
    labels = schema.read(steps.folder / name, schema.UTILITIES)
    known = align(labels, fit, "utility")
    if len(labels) != len(fit) or not np.array_equal(known, fit.utility):
        return False
    with writing_folder(path) as partial:
        shutil.copytree(steps.folder / FOLDER / "model", partial, dirs_exist_ok=True)
    return True
