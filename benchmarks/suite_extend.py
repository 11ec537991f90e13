"""Begin a cell with the candidates of another one that asks the same, of fewer authors or for fewer candidates."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from bestfor.data.schema import CANDIDATES
from bestfor.files import hash_json
from bestfor.pool import CandidatePool
from bestfor.runs.config import RunConfig, load_config
from bestfor.runs.foreseen import foresee
from bestfor.runs.sampling import Chunk


def more_of(config: RunConfig, folder: Path, other: Path) -> int:
    """Put the candidates of a run into the pool of another, as the first ones of each question.

    Only those whose prompt, policy and seed are equal are taken, by the hashes that the pool keeps. What is left is
    asked for by the run itself, with seeds of its own.

    Args:
        config: the cell that asks for more.
        folder: its run.
        other: the run that asked for fewer.

    Returns:
        Candidates that were taken for parts that ask for more or are cut otherwise; those of equal parts are there.
    """
    pool = folder / "pool"
    if not pool.is_dir():
        shutil.copytree(other / "pool", pool)
    fewer = load_config(other / "run.toml").policy.n
    (fold,) = foresee(config, folder)
    if fold.sampling is None:
        raise typer.BadParameter("a cell whose candidates are given cannot be extended")
    signature, seed = fold.sampling.policy.signature, config.seed
    asked: dict[str, dict[str, str]] = json.loads((other / "pool" / "asked.json").read_text(encoding="utf-8"))
    known = {mark for own in asked.values() for mark in own.values()}
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in CandidatePool(other / "pool").scan().to_pylist():
        rows[row["query_id"]].append(row)

    def taken(chunk: Chunk) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for prompt in chunk.prompts:
            content = [signature, seed, fewer, prompt.query_id, list(prompt.messages)]
            if hash_json(content)[:16] in known:
                found += [row for row in rows[prompt.query_id] if row["candidate"] < min(fewer, chunk.n)]
        return found

    count, ours = 0, CandidatePool(pool)
    for chunk in fold.sampling.owed_chunks:
        some = taken(chunk)
        if some:
            ours.append(pa.Table.from_pylist(some, schema=CANDIDATES), key=chunk.some)
        count += len(some)
    return count
