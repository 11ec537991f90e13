"""A run folder's page and picture, made from what the folder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data import schema
from bestfor.errors import InputError
from bestfor.pool import CandidatePool
from bestfor.report import write_html


def load_diagnosis(folder: str | Path) -> dict[str, Any]:
    """The diagnosis that a run left.

    Raises:
        InputError: the folder or its diagnosis.json is not there, or is damaged.
    """
    path = Path(folder) / "diagnosis.json"
    if not path.is_file():
        raise InputError(str(path), "no file", f"the diagnosis of a finished run (bestfor run {folder})")
    try:
        diagnosis = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(str(path), f"what is not JSON ({error})", "a diagnosis") from error
    if not isinstance(diagnosis, dict) or "models" not in diagnosis:
        raise InputError(str(path), "JSON without 'models'", "a diagnosis")
    return diagnosis


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a run, with the texts of its most suspicious queries.

    Returns:
        The page's path.
    """
    folder = Path(folder)
    diagnosis = load_diagnosis(folder)
    wanted = _suspects(diagnosis)
    texts: dict[tuple[str, int], str] = {}
    inputs: dict[str, str] = {}
    for part in [folder, *sorted(folder.glob("fold-*"))]:
        if (part / "pool").is_dir() and wanted:
            _collect(part, wanted, texts, inputs)
    page = folder / "report.html"
    write_html(page, diagnosis, texts=texts, inputs=inputs)
    return page


def write_picture(path: Path, diagnosis: Mapping[str, Any], model: str | None = None) -> None:
    """Write curves, captured shares, law and correlations as a picture (.png, .svg, .pdf)."""
    from bestfor.report.picture import save

    save(path, diagnosis, model=model)


def _suspects(diagnosis: Mapping[str, Any]) -> set[tuple[str, int]]:
    suspects = [suspect for model in diagnosis["models"].values() for suspect in model.get("suspects", [])]
    return {(suspect["query"], suspect[role]) for suspect in suspects for role in ("pick", "best")}


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
