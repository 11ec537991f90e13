"""Build what the tables of a run's file describe: its policy, its prompts, its metrics and its judge."""

from __future__ import annotations

from pathlib import Path

from bestfor.backends import Backend, Local, make_backend
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.split import Dataset
from bestfor.data.world import INSTRUCTIONS
from bestfor.encoders.base import Encoder
from bestfor.errors import InputError
from bestfor.metrics import Metric, RunSetting, make_metric, metric_label
from bestfor.metrics.judge import JudgeConfig
from bestfor.policies.prompts import instruction
from bestfor.runs.config import JudgeTable, PolicyTable, RunConfig, WorldTable
from bestfor.runs.prompts import Prompting
from bestfor.runs.sampling import SamplingSettings
from bestfor.runs.sources import world_of
from bestfor.runs.workspace import RATING


def sampling_of(config: RunConfig, prompting: Prompting) -> SamplingSettings:
    """Read how many candidates a run samples."""
    table = config.policy
    return SamplingSettings(
        n=table.n,
        fit_n=table.fit_n,
        fit_items=table.fit_items,
        prompting=prompting,
        seed=config.seed,
        fit_share=table.fit_share,
        refused=table.refused,
    )


def prompting_of(config: RunConfig, data: Dataset, folder: Path | None = None) -> Prompting:
    """Decide what stands in the prompts of a run; embeddings that compare items are kept in ``folder``.

    Raises:
        InputError: the published prompt of data without one.
    """
    table = config.policy
    own = table.instruction
    if own is None:
        own = INSTRUCTIONS[config.data.task] if isinstance(config.data, WorldTable) else instruction_of(data)
    if table.prompt == "published" and not data.task:
        raise InputError("[policy] prompt", "'published'", "'own': only tasks of a benchmark have a published prompt")
    return Prompting(
        own,
        table.items,
        table.retriever,
        data.task if table.prompt == "published" else "",
        table.prompt_tokens,
        _retrieval_encoder(table, folder),
        table.too_long or ("truncate" if table.prompt == "published" else "error"),
        items_from=table.items_from,
        seed=config.seed,
    )


def instruction_of(data: Dataset) -> str:
    """Write what a policy has to do, in our own words, for the data's task."""
    return instruction(TASKS[data.task].kind if data.task else "generic")


def _retrieval_encoder(table: PolicyTable, folder: Path | None) -> Encoder | None:
    if table.retriever != "dense":
        return None
    from bestfor.encoders import load_encoder

    return load_encoder(table.encoder, cache=None if folder is None else folder / "embeddings")


def metric_names(config: RunConfig, data: Dataset) -> tuple[str, ...]:
    """Name what is measured: people's ratings, the metrics that the run names, or the usual one of the data's task."""
    if config.door == "ratings":
        return (RATING,)
    usual = TASKS[data.task].metric if data.task else "rougeL"
    return config.utility.metrics or (usual,)


def primary_metric(config: RunConfig, data: Dataset) -> str:
    """Name the metric that models learn and curves show."""
    return metric_label(config.utility.primary or metric_names(config, data)[0])


def metrics_of(config: RunConfig, names: tuple[str, ...], folder: Path | None = None) -> list[Metric]:
    """Build the metrics of these names; a judge keeps its answers in ``folder``.

    Raises:
        InputError: an unknown metric, or the world's own metric on other data.
    """
    table = config.utility
    run = RunSetting(
        folder,
        table.encoder,
        world_of(config.data) if isinstance(config.data, WorldTable) else None,
        None if table.judge is None else judge_config(table.judge),
    )
    return [make_metric(name, run, where="[utility] metrics") for name in names]


def backend_of(config: RunConfig, workers: int = 1) -> Backend:
    """Make the backend of a run.

    Args:
        config: the run.
        workers: processes where the table ``[backend]`` says nothing of them.
    """
    table = config.backend
    given = table.given()
    if table.kind == Local.kind:
        given.setdefault("workers", workers)
    return make_backend(table.kind, **given)


def judge_config(table: JudgeTable) -> JudgeConfig:
    """Read the configuration of the judge of ``[utility.judge]``."""
    return JudgeConfig(
        table.model,
        rubric=table.rubric or JudgeConfig.rubric,
        low=table.low,
        high=table.high,
        logprobs=table.logprobs,
        max_tokens=table.max_tokens,
        identity=table.identity,
        extra_body=table.endpoint.extra_body,
        server=table.endpoint.config("[utility.judge.endpoint]"),
    )
