"""Read, count and show what lies in a run folder: its run.toml, pool, utilities, rewards, diagnosis and page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tomli_w

from bestfor.data import schema
from bestfor.data.parts import CandidateParts
from bestfor.data.split import Dataset
from bestfor.data.states import NO_CANDIDATES
from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.result import DiagnosisResult
from bestfor.errors import InputError
from bestfor.files import write_text
from bestfor.pool import CandidatePool
from bestfor.report import write_html
from bestfor.report.answers import read_answers
from bestfor.report.held_out import read_held_out
from bestfor.runs.about import data_in_words, day_of
from bestfor.runs.config import RunConfig
from bestfor.runs.diagnosed import load_diagnosis as load_diagnosis


def write_run(config: RunConfig, folder: Path) -> None:
    """Write the run as resolved, in a form that can be read again."""
    unused = {"policy", "utility"} if config.door == "ratings" else None
    text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True, exclude=unused))
    write_text(folder / "run.toml", text, sync=False)


def check_same_data(folder: Path, data: Dataset) -> None:
    """Refuse a folder that holds the results of other data, which would silently be replaced.

    Raises:
        InputError: it holds those of another data set or split.
    """
    path = folder / "signature.json"
    if not path.is_file():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8")).get("data")
    except (ValueError, AttributeError):
        return  # a torn signature: the steps' own hashes decide
    if known != data.signature and not _other_queries_alone(folder, data):
        raise InputError(str(folder), "the results of other data or another split", "a new folder (--out)")


def _other_queries_alone(folder: Path, data: Dataset) -> bool:
    """Tell whether data differ from a folder's by queries that were taken out or put back, and by nothing else."""
    paths = (folder / "histories.parquet", folder / "queries.parquet")
    if data.candidates is not None or not all(path.is_file() for path in paths):
        return False
    histories = schema.read(paths[0], schema.HISTORIES)
    stored = schema.read(paths[1], schema.QUERIES).to_pylist()
    known = {row["query_id"]: row for row in stored if row["split"] == "test"}
    wanted = {row["query_id"]: row for row in data.queries.to_pylist()}
    shared = known.keys() & wanted.keys()
    same = len(shared) == min(len(known), len(wanted)) and all(known[name] == wanted[name] for name in shared)
    return bool(shared) and same and histories.equals(data.histories.select(schema.HISTORIES.names))


Candidate = tuple[str, int]
"""A query's id and the candidate's index."""


@dataclass(frozen=True)
class Shown:
    """Texts and inputs that a page shows beside its figures.

    Attributes:
        texts: of some candidates.
        inputs: of their queries.
    """

    texts: Mapping[Candidate, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def joined(self, parts: CandidateParts, wanted: Collection[Candidate]) -> Shown:
        """Add some candidates of coded ones."""
        test = parts.test
        place = {query: code for code, query in enumerate(test.queries)}
        asked = np.isin(test.query, [place[query] for query, _ in wanted if query in place])
        texts, inputs = dict(self.texts), dict(self.inputs)
        for row in np.flatnonzero(asked).tolist():
            query = int(test.query[row])
            one = test.queries[query], int(test.candidate[row])
            if one in wanted:
                texts[one], inputs[one[0]] = test.texts[test.text[row]], test.inputs[query]
        return Shown(texts, inputs)


def write_report(folder: str | Path, diagnosis: Diagnosis | None = None, shown: Shown | None = None) -> Path:
    """Write ``report.html`` of a run, with the texts of its most suspicious queries.

    Args:
        folder: the run's.
        diagnosis: its diagnosis; read where None.
        shown: texts that are known; the others are read from the pools.

    Returns:
        The page's path.
    """
    folder, shown = Path(folder), shown or Shown()
    diagnosis = diagnosis or Diagnosis.read(folder)
    wanted = suspects_of(diagnosis)
    texts, inputs = dict(shown.texts), dict(shown.inputs)
    for part in [folder, *sorted(folder.glob("fold-*"))]:
        if (part / "pool").is_dir() and not wanted <= texts.keys():
            _collect(part, wanted, texts, inputs)
    page, day = folder / "report.html", day_of(folder / "diagnosis.json")
    write_html(
        page,
        diagnosis,
        texts=texts,
        inputs=inputs,
        answers=read_answers(folder),
        held_out=read_held_out(folder),
        date=f"measured on {day}" if day else "",
        data=data_in_words(folder),
    )
    return page


def suspects_of(diagnosis: DiagnosisResult) -> set[Candidate]:
    """List the picks and the best candidates of the most suspicious queries."""
    found = (suspect for model in diagnosis.models.values() for suspect in model.suspects)
    return {(one.query, candidate) for one in found for candidate in (one.pick, one.best) if candidate is not None}


def _collect(
    part: Path, wanted: set[tuple[str, int]], texts: dict[tuple[str, int], str], inputs: dict[str, str]
) -> None:
    names = pa.array(sorted({query for query, _ in wanted}))
    candidates = CandidatePool(part / "pool").scan()
    candidates = candidates.filter(pc.is_in(candidates["query_id"], value_set=names))  # pyright: ignore[reportAttributeAccessIssue]
    for query, candidate, text in zip(
        *(candidates[name].to_pylist() for name in ("query_id", "candidate", "text")), strict=True
    ):
        if (query, candidate) in wanted:
            texts[query, candidate] = text
    queries = schema.read(part / "queries.parquet", schema.QUERIES)
    queries = queries.filter(pc.is_in(queries["query_id"], value_set=names))  # pyright: ignore[reportAttributeAccessIssue]
    inputs.update(zip(queries["query_id"].to_pylist(), queries["input"].to_pylist(), strict=True))


def pool_of(folder: str | Path) -> CandidatePool:
    """Open the pool in a run folder, or the pool that the folder is.

    Raises:
        InputError: no such folder, or none with parts or a plan.
    """
    folder = Path(folder)
    for place in (folder / "pool", folder):
        if (place / "plan.json").is_file() or any(place.glob("part-*.parquet")):
            return CandidatePool(place)
    found = "no pool" if folder.is_dir() else "no folder"
    raise InputError(str(folder), found, "a run's folder, or its folder 'pool'")


def describe_pool(folder: str | Path) -> dict[str, Any]:
    """Count what a pool holds, finished or not; its parts are read and checked.

    Args:
        folder: a run's folder, or its folder ``pool``.

    Returns:
        As JSON can hold it: parts (planned, there, missing, damaged, other), candidates, queries by split, candidates
        of a query (least and most), share of distinct texts within a query, policies, how candidates ended, what stands
        in prompts, and bytes on disk.

    Raises:
        InputError: no pool.
    """
    pool = pool_of(folder)
    planned, damaged = set(pool.planned), {problem.path for problem in pool.verify()}
    there = {path for path in pool.folder.glob("part-*.parquet")} - damaged
    whole = {pool.path(key) for key in planned} & there
    parts = {
        "planned": len(planned),
        "there": len(whole),
        "missing": len(planned) - len(whole),
        "damaged": len(damaged),
        "other": len(there - whole),
    }
    tables = [pool.read(key) for key in pool.planned]
    rows = pa.concat_tables([table for table in tables if table is not None] or [schema.CANDIDATES.empty_table()])
    rows = rows.filter(pc.not_equal(rows["finish_reason"], NO_CANDIDATES))  # pyright: ignore[reportAttributeAccessIssue]
    size = sum(path.stat().st_size for path in whole)
    splits = _splits(pool.folder.parent / "queries.parquet")
    return {"folder": str(pool.folder), "parts": parts, **_count(rows, splits), "prompts": pool.prompts, "bytes": size}


def verify_pool(folder: str | Path) -> dict[str, Any]:
    """Check whether a pool's parts are as they were written.

    Returns:
        As JSON can hold it: ``ok``, how many parts were read, the damaged ones with what is wrong, and the keys of
        planned parts that are not there.

    Raises:
        InputError: no pool.
    """
    pool = pool_of(folder)
    problems = pool.verify()
    damaged = {problem.path for problem in problems}
    absent = [key for key in pool.planned if not pool.path(key).is_file()]
    return {
        "folder": str(pool.folder),
        "ok": not problems,
        "parts": len(list(pool.folder.glob("part-*.parquet"))),
        "damaged": [{"path": str(problem.path), "reason": problem.reason} for problem in problems],
        "planned": sum(pool.path(key) in damaged for key in pool.planned),
        "missing": absent,
    }


def describe_utilities(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Count, by metric, the measured candidates of each split, and take their mean utility."""
    splits = _splits(folder / "queries.parquet")
    found: dict[str, Any] = {}
    for name in names:
        table = schema.read(folder / "utilities" / f"{name}.parquet", schema.UTILITIES)
        values = table["utility"].to_numpy()
        split = np.array([splits.get(query, "test") for query in table["query_id"].to_pylist()], dtype=object)
        found[name] = {
            part: {"candidates": int((split == part).sum()), "mean": _mean(values[split == part])}
            for part in ("fit", "test")
        }
    return found


def describe_rewards(folder: Path, labels: Sequence[str]) -> dict[str, Any]:
    """Say of each reward model how many candidates have a reward, its scale and whether it has standard deviations."""
    found: dict[str, Any] = {}
    for label in labels:
        path = folder / "rewards" / f"{label}.parquet"
        table = schema.read(path, schema.REWARDS)
        found[label] = {
            "candidates": table.num_rows - table["mean"].null_count,
            "missing": table["mean"].null_count,
            "scale": schema.read_metadata(path).get("scale"),
            "std": table["std"].null_count < table.num_rows,
            "file": str(path),
        }
    return found


def _count(rows: pa.Table, splits: dict[str, str]) -> dict[str, Any]:
    queries = Counter(rows["query_id"].to_pylist())
    texts = set(zip(rows["query_id"].to_pylist(), rows["text_id"].to_pylist(), strict=True))
    sizes = queries.values()
    return {
        "candidates": rows.num_rows,
        "queries": dict(Counter(splits.get(query, "unknown") for query in queries)),
        "candidates_of_a_query": [min(sizes), max(sizes)] if queries else None,
        "distinct": len(texts) / rows.num_rows if rows.num_rows else None,
        "policies": sorted(set(rows["policy"].to_pylist())),
        "finish_reasons": dict(sorted(Counter(rows["finish_reason"].to_pylist()).items())),
    }


def _splits(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = schema.read(path, schema.QUERIES)
    return dict(zip(table["query_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
