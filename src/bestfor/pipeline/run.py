"""A whole run: data, pool, utilities, reward models, rewards, diagnosis, report; resumable at every step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tomli_w

from bestfor import __version__
from bestfor.data import schema
from bestfor.data.split import Dataset
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds, diagnose_arrays
from bestfor.errors import InputError
from bestfor.pipeline.config import Reward as RewardConfig
from bestfor.pipeline.config import RunConfig
from bestfor.pipeline.doors import fill_pool, load_dataset, primary_metric
from bestfor.pipeline.examples import build_examples, build_rows
from bestfor.pipeline.page import write_report
from bestfor.pipeline.serving import notes_of
from bestfor.pipeline.steps import Steps, digest, write_json, write_text
from bestfor.pool import CandidatePool
from bestfor.rewards import KINDS
from bestfor.rewards import load as load_model
from bestfor.types import RewardEstimate, Scale

Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: the run folder.
        diagnosis: its diagnosis (of the mean of the folds where there are several).
        report: the page.
    """

    folder: Path
    diagnosis: Diagnosis
    report: Path


def run(config: RunConfig, out: str | Path, *, tell: Tell = lambda line: None) -> RunResult:
    """Do a run, or what is left of it.

    Args:
        config: the run.
        out: its folder; made where it is not there. What is there already and matches is kept.
        tell: called with one line a step.

    Raises:
        InputError: bad data, an option without sense here, or a folder that holds another run's pool.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "a file", "a folder for the run")
    if config.split.fold != "all":
        return _run_fold(config, load_dataset(config), folder, folder, tell)
    if config.door == "histories":
        raise InputError("[split] fold", "'all'", "0 for histories: their test queries are given, not split")
    results = []
    for fold in (0, 1, 2):
        one = config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})})
        tell(f"fold {fold}")
        results.append(_run_fold(one, load_dataset(one), folder / f"fold-{fold}", folder, tell))
    diagnosis = combine_folds([result.diagnosis for result in results])
    _write_run(config, folder)
    return _leave(folder, diagnosis)


def _run_fold(config: RunConfig, data: Dataset, folder: Path, shared: Path, tell: Tell) -> RunResult:
    steps = Steps(folder, tell)
    _check_n(config, data)
    _check_same_data(folder, data)
    _write_run(config, folder)

    def save_tables() -> None:
        schema.write(data.histories, folder / "histories.parquet")
        write_json(folder / "signature.json", {"data": data.signature, "version": __version__})

    tell(f"data: {data.name}, {len(data.queries)} queries")
    start = steps.run("data", {"data": data.signature}, ["histories.parquet", "signature.json"], save_tables)
    queries, measured = fill_pool(config, data, folder, steps, start)
    pool = CandidatePool(folder / "pool").scan()
    metric = primary_metric(config, data)
    utilities = schema.read(folder / "utilities" / f"{metric}.parquet", schema.UTILITIES)
    tables = _Tables(queries, pool, utilities)
    predicted = {
        spec.label: _fit_and_predict(spec, config, tables, steps, (measured, shared)) for spec in config.reward
    }
    diagnosis = _diagnose(config, data, tables, folder, predicted)
    return _leave(folder, diagnosis)


@dataclass(frozen=True)
class _Tables:
    queries: pa.Table
    candidates: pa.Table
    utilities: pa.Table


def _fit_and_predict(
    spec: RewardConfig, config: RunConfig, tables: _Tables, steps: Steps, context: tuple[str, Path]
) -> str:
    measured, shared = context
    cache = shared / "embeddings"
    folder = steps.folder

    def fit() -> None:
        examples = build_examples(tables.queries, tables.candidates, tables.utilities, "fit")
        # A metric may leave texts without a value (a judge that did not answer): nothing is learnt from these.
        examples = examples.take(np.flatnonzero(np.isfinite(examples.utility)))
        if len(examples) == 0:
            raise InputError(str(folder), "no labelled candidates to fit on", "at least one")
        model = KINDS[spec.kind](cache=cache, **spec.options)
        model.fit(examples, rng=config.seed).save(folder / "models" / spec.label)

    inputs = {"measured": measured, "kind": spec.kind, "options": spec.options, "seed": config.seed}
    inputs["version"] = __version__
    fitted = steps.run(f"fit {spec.label}", inputs, [f"models/{spec.label}"], fit)

    def predict() -> None:
        examples = build_examples(tables.queries, tables.candidates, tables.utilities, "test")
        blind = examples.take(np.arange(len(examples)))
        blind.utility[:] = np.nan
        model = load_model(folder / "models" / spec.label, cache=cache)
        estimate = model.predict(blind)
        table = _rewards_table(blind.query, blind.candidate, blind.queries, spec.label, estimate)
        metadata = {"scale": model.scale, "notes": json.dumps(model.notes, ensure_ascii=False)}
        schema.write(table, folder / "rewards" / f"{spec.label}.parquet", metadata)

    inputs = {"model": fitted, "measured": measured}
    return steps.run(f"predict {spec.label}", inputs, [f"rewards/{spec.label}.parquet"], predict)


def _rewards_table(
    query: np.ndarray, candidate: np.ndarray, names: tuple[str, ...], label: str, estimate: RewardEstimate
) -> pa.Table:
    count = len(query)
    std = pa.nulls(count, pa.float64()) if estimate.std is None else pa.array(estimate.std)
    return pa.table(
        [
            pa.array(names).take(pa.array(query)),
            pa.array(candidate, pa.int32()),
            pa.array([label]).take(pa.array(np.zeros(count, dtype=np.int64))),
            pa.array(estimate.mean),
            std,
        ],
        schema=schema.REWARDS,
    )


def _diagnose(
    config: RunConfig,
    data: Dataset,
    tables: _Tables,
    folder: Path,
    predicted: dict[str, str],
) -> Diagnosis:
    rewards = {name: schema.read(folder / "rewards" / f"{name}.parquet", schema.REWARDS) for name in predicted}
    rows = build_rows(tables.queries, tables.candidates, tables.utilities, rewards)
    scales: dict[str, Scale] = {spec.label: KINDS[spec.kind].scale for spec in config.reward}
    signature = {
        "version": __version__,
        "data": data.signature,
        "policy": "human" if config.door == "ratings" else config.policy.model_dump(),
        "metric": primary_metric(config, data),
        "reward": digest({name: predicted[name] for name in sorted(predicted)}),
        "rule": "argmax",
        "split": config.split.model_dump(),
        "seed": config.seed,
    }
    diagnosis = diagnose_arrays(
        rows.user,
        rows.query,
        rows.utility,
        {name: Reward(mean, scales[name], rows.stds.get(name)) for name, mean in rows.rewards.items()},
        Settings(
            n=config.diagnosis.n or None,
            averaging=config.diagnosis.averaging,
            level=config.diagnosis.level,
            signature=signature,
            name=config.name or data.name,
        ),
        text=rows.text if config.door == "ratings" else None,
        candidate=rows.candidate,
    )
    return diagnosis.with_notes({name: (*_notes(folder, name), *data.notes, *notes_of(folder)) for name in predicted})


def _notes(folder: Path, label: str) -> tuple[str, ...]:
    stored = schema.read_metadata(folder / "rewards" / f"{label}.parquet").get("notes", "[]")
    return tuple(json.loads(stored))


def _leave(folder: Path, diagnosis: Diagnosis) -> RunResult:
    write_json(folder / "diagnosis.json", diagnosis.to_dict())
    return RunResult(folder, diagnosis, write_report(folder))


def _check_n(config: RunConfig, data: Dataset) -> None:
    """An N that no pool can answer is known before anything is fitted, where candidates are in the data."""
    if data.candidates is None:
        return
    split = dict(zip(data.queries["query_id"].to_pylist(), data.queries["split"].to_pylist(), strict=True))
    counts = data.candidates["query_id"].value_counts().to_pylist()
    most = max((row["counts"] for row in counts if split[row["values"]] == "test"), default=0)
    largest = max(config.diagnosis.n, default=1)
    if largest > most:
        raise InputError("[diagnosis] n", f"N = {largest}", f"at most {most}, the candidates of the largest test pool")


def _check_same_data(folder: Path, data: Dataset) -> None:
    """A folder keeps the results of one data set: another one's would silently replace them."""
    path = folder / "signature.json"
    if not path.is_file():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8")).get("data")
    except (ValueError, AttributeError):
        return  # a torn signature: the steps' own hashes decide
    if known != data.signature:
        raise InputError(str(folder), "the results of other data or another split", "a new folder (--out)")


def _write_run(config: RunConfig, folder: Path) -> None:
    write_text(folder / "run.toml", tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
