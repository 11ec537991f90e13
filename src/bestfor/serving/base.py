"""Read what a model was fitted on from its run: the labelled rows, and the scale of their utilities."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor import artifacts
from bestfor.artifacts import CONFIG_FILE
from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.data.said import read_said
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_file
from bestfor.metrics import metric_class, metric_label
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel, kind_class
from bestfor.rewards import load as load_model
from bestfor.runs.config import RunConfig, load_config
from bestfor.runs.diagnosed import RATING, load_diagnosis
from bestfor.serving.labels import LabelScale

REFIT_FILE = "refit.json"
"""Stands beside a model that :meth:`bestfor.Service.refit` made: of which run and journal."""
FEW = 3
"""Distinct utilities up to which labels are votes, whose ends a thumb stands for."""


@dataclass(frozen=True)
class ServedModel:
    """A fitted model and where it came from.

    Attributes:
        model: scores.
        digest: hash of its folder's configuration, which names its weights; "" where it has no folder.
        folder: the model's folder, None for a model in memory.
        run: the folder of the run whose labels it was fitted on, None where nobody knows.
        learned: labels of the journal that came until then (seconds since 1970) may be among those that it was fitted
            on; None where none is.
    """

    model: RewardModel
    digest: str
    folder: Path | None = None
    run: Path | None = None
    learned: float | None = None


def open_model(model: str | Path | RewardModel | ServedModel, **options: Any) -> ServedModel:  # noqa: ANN401 - those of ``load``
    """Open a fitted model, or the best one of a run.

    Args:
        model: a fitted model, its folder, a run's folder, or one that is open and shared.
        **options: as :func:`bestfor.rewards.load` takes them.

    Raises:
        InputError: no model there.
    """
    if isinstance(model, ServedModel):
        return model
    if isinstance(model, RewardModel):
        return ServedModel(model, "")
    folder = Path(model)
    if not (folder / CONFIG_FILE).is_file():
        folder = best_model(folder)
    digest = hash_file(folder / CONFIG_FILE)
    return ServedModel(load_model(folder, **options), digest, folder, _run_of(folder), _learned_of(folder))


def best_model(run: Path) -> Path:
    """Find the model of a run that captures most at its largest N, among those that learn from what people say.

    Raises:
        InputError: no run with a fitted model.
    """
    fitted = sorted(path.parent for path in (run / "models").glob(f"*/{CONFIG_FILE}"))
    if not fitted:
        expected = "a model's folder, or a run that has fitted one"
        found = "a run of several folds" if any(run.glob("fold-*/models")) else "no model"
        raise InputError(str(run), found, expected if found == "no model" else f"one of them, as {run / 'fold-0'}")
    captured = {}
    if (run / "diagnosis.json").is_file():
        captured = {name: one["captured"][-1] for name, one in load_diagnosis(run)["models"].items() if one["captured"]}
    return max(fitted, key=lambda path: (_learns(path), captured.get(path.name) or -np.inf, path.name))


def _learns(folder: Path) -> bool:
    """Tell whether a saved model learns from what people say; a kind that is not installed does not."""
    try:
        return bool(kind_class(str(artifacts.read_config(folder)["kind"])).learns)
    except (BestforError, KeyError):
        return False


def _run_of(folder: Path) -> Path | None:
    """Find the run that a model was fitted in, or made anew of."""
    if (folder / REFIT_FILE).is_file():
        known = json.loads((folder / REFIT_FILE).read_text(encoding="utf-8")).get("run")
        return None if known is None else Path(known)
    run = folder.resolve().parent.parent
    return run if (run / "run.toml").is_file() else None


def _learned_of(folder: Path) -> float | None:
    """Find until when a model learned labels of a journal; a refit that does not say so did until its end."""
    record = folder / REFIT_FILE
    if not record.is_file():
        return None
    known = json.loads(record.read_text(encoding="utf-8"))
    return known["learned"] if "learned" in known else record.stat().st_mtime


@dataclass(frozen=True)
class _Base:
    """Tables of a run that say what its models were fitted on."""

    config: RunConfig
    metric: str
    queries: pa.Table
    utilities: pa.Table


def _read(run: Path) -> _Base:
    config = load_config(run / "run.toml")
    if config.split.fold == "all":
        raise InputError(str(run), "a run of several folds", f"one of them, as {run / 'fold-0'}")
    metric = _primary(config, run)
    queries = schema.read(run / "queries.parquet", schema.QUERIES)
    return _Base(config, metric, queries, schema.read(run / "utilities" / f"{metric}.parquet", schema.UTILITIES))


def _primary(config: RunConfig, run: Path) -> str:
    """Name the metric that a run's models learned, without its data, which may be elsewhere by now."""
    if config.door == "ratings":
        return RATING
    named = config.utility.primary or next(iter(config.utility.metrics or ()), None)
    measured = sorted(path.stem for path in (run / "utilities").glob("*.parquet"))
    if named is None and len(measured) != 1:
        found = f"{len(measured)} metrics" if measured else "no utilities"
        raise InputError(str(run), found, "a run that was measured, whose run.toml names the primary metric")
    return measured[0] if named is None else metric_label(named)


def fit_rows(run: Path, without: frozenset[str]) -> tuple[Candidates, int]:
    """Read the labelled rows that a run's models are fitted on.

    Args:
        run: its folder.
        without: users whose rows and histories are not read.

    Returns:
        The rows, and the run's seed.

    Raises:
        InputError: a run that is not whole.
    """
    from bestfor.runs.joins import build_history, build_parts  # they load all diagnostics

    base = _read(run)
    histories = schema.read(run / "histories.parquet", schema.HISTORIES)
    queries, histories = (_without(table, without) for table in (base.queries, histories))
    parts = build_parts(queries, CandidatePool(run / "pool").scan(), base.utilities, build_history(histories, queries))
    said = read_said(run)
    if said is not None:
        said = {user: labels for user, labels in said.items() if user not in without}
    return replace(parts.fit, said=said), base.config.seed


def users_of(run: Path) -> list[str]:
    """List the users of a run's queries and histories."""
    found: set[str] = set()
    for name, columns in (("queries", schema.QUERIES), ("histories", schema.HISTORIES)):
        if (run / f"{name}.parquet").is_file():
            users = schema.read(run / f"{name}.parquet", columns)["user_id"]
            found |= set(pc.unique(users).to_pylist())  # pyright: ignore[reportAttributeAccessIssue]
    return sorted(found)


def scale_of(run: Path) -> LabelScale:
    """Read the scale of a run's labels: where its fit utilities lie, and the metric that they are.

    Votes (up to three distinct values) span the scale and are what a thumb says. Other utilities span it from their 5 %
    to their 95 % quantile. Edits are measured by the run's metric where that compares with a text of the person's own,
    in its own units; else by ROUGE-L, whose 1 is the width of the scale.

    Raises:
        InputError: a run that is not whole.
    """
    base = _read(run)
    fit = base.queries.filter(pc.equal(base.queries["split"], "fit"))  # pyright: ignore[reportAttributeAccessIssue]
    among = pc.is_in(base.utilities["query_id"], value_set=fit["query_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    values = base.utilities.filter(among)["utility"].to_numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        raise InputError(str(run), "no utilities of the fit part", "a run that was measured, or a scale of one's own")
    distinct = np.unique(values)
    votes = 2 <= len(distinct) <= FEW
    worst, best = (distinct[0], distinct[-1]) if votes else np.quantile(values, [0.05, 0.95])
    if not worst < best:
        worst, best = worst - 0.5, best + 0.5
    own = base.config.door != "ratings" and getattr(metric_class(base.metric), "needs_reference", False)
    return LabelScale(
        float(worst),
        float(best),
        thumbs=(float(worst), float(best)) if votes else None,
        metric=base.metric if own else "rougeL",
        metric_unit=1.0 if own else None,
    )


def _without(table: pa.Table, users: frozenset[str]) -> pa.Table:
    """Leave out the rows of some users."""
    if not users:
        return table
    theirs = pc.is_in(table["user_id"], value_set=pa.array(sorted(users)))  # pyright: ignore[reportAttributeAccessIssue]
    return table.filter(pc.invert(theirs))  # pyright: ignore[reportAttributeAccessIssue]
