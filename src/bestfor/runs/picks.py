"""Score candidates with a fitted model and pick of them by a rule: requests from outside, or the pool of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor import artifacts
from bestfor.data import schema
from bestfor.data.requests import AnswerRequest, RequestBatch, in_batches
from bestfor.errors import InputError, nearest
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel, kind_class, load_model
from bestfor.rng import derive
from bestfor.runs.config import RunConfig, load_config
from bestfor.runs.folder import load_diagnosis
from bestfor.runs.joins import build_history
from bestfor.runs.usage import MeteredModel
from bestfor.selection import Pick, Rule, named_rule, select
from bestfor.types import Scores

PICKS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("candidate", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("std", pa.float64()),
        pa.field("rule", pa.string(), nullable=False),
    ]
)
"""Columns of a run's ``picks.parquet``: the test queries' answers by the run's best model."""

Subset = Literal["first", "random"]
"""Which N of a request's candidates are looked at: the first, as they came, or any, drawn by the seed."""


@dataclass(frozen=True)
class PickedAnswer:
    """A request, its candidates' scores and the pick.

    Attributes:
        request: as it came, with the candidates that were looked at.
        scores: of these.
        pick: which of them.
    """

    request: AnswerRequest
    scores: Scores
    pick: Pick


@dataclass(frozen=True)
class Picking:
    """Way to pick answers: rule, candidates that are looked at, seed.

    Attributes:
        rule: which.
        n: candidates that are looked at, all where None.
        subset: which n.
        seed: of the subset, and of picks by chance.
    """

    rule: Rule
    n: int | None = None
    subset: Subset = "first"
    seed: int = 0

    def narrow(self, request: AnswerRequest) -> AnswerRequest:
        """Keep the candidates that are looked at, in their order."""
        if self.subset == "first" or self.n is None or self.n >= len(request.texts):
            return request.first(self.n)
        drawn = derive(self.seed, "subset", request.user, request.query)
        kept = np.sort(drawn.choice(len(request.texts), self.n, replace=False)).tolist()
        texts = tuple(request.texts[place] for place in kept)
        return replace(request, texts=texts, candidate=tuple(request.number(place) for place in kept))

    def pick(self, request: AnswerRequest, scores: Scores) -> PickedAnswer | None:
        """Pick among the candidates that have a reward; None where none has.

        ``best`` takes the first of the highest; the other rules draw by their chances, keyed by seed, user and query.
        """
        known = np.flatnonzero(~np.isnan(scores.mean))
        if not len(known):
            return None
        if len(known) < len(request.texts):
            places = known.tolist()
            request = replace(
                request,
                texts=tuple(request.texts[place] for place in places),
                candidate=tuple(request.number(place) for place in places),
            )
            scores = _taken(scores, known)
        rng = None if self.rule.name == "best" else derive(self.seed, "pick", request.user, request.query)
        return PickedAnswer(request, scores, select(scores, self.rule, texts=request.texts, rng=rng))


def _taken(scores: Scores, kept: np.ndarray) -> Scores:
    std, std_mean = (None if one is None else one[kept] for one in (scores.std, scores.std_mean))
    cover = None if scores.cov_mean is None else scores.cov_mean[np.ix_(kept, kept)]
    return Scores(scores.mean[kept], std, std_mean, scores.served, cover)


@dataclass(frozen=True)
class ModelSource:
    """A fitted model, and the folder of the run that it stands in.

    Attributes:
        model: scores.
        label: its name in the run, or its folder's.
        run: the run's folder (of one fold), None where only a model's folder was given.
    """

    model: RewardModel
    label: str
    run: Path | None


def open_sources(place: str | Path, name: str | None = None) -> list[ModelSource]:
    """Open a model by its folder, or a run's best (or another) model, one for each fold.

    Args:
        place: a model's folder or a run's.
        name: which of a run's models; the one that the headline of its diagnosis is about where None.

    Raises:
        InputError: neither of both, a run that is not finished (and no name), or an unknown name.
    """
    folder = Path(place)
    if (folder / artifacts.CONFIG_FILE).is_file():
        if name is not None:
            raise InputError("--model", f"'{name}'", f"nothing beside a model's folder, which {folder} is")
        return [ModelSource(load_model(folder), folder.resolve().name, None)]
    if not (folder / "run.toml").is_file():
        found = "a folder without run.toml or a model" if folder.is_dir() else "no folder"
        raise InputError(str(folder), found, "the folder of a run or of a model")
    config = load_config(folder / "run.toml")
    labels = [table.label for table in config.reward]
    if name is None:
        name = labels[0] if len(labels) == 1 else best_model(load_diagnosis(folder))
    if name not in labels:
        raise InputError("--model", f"'{name}'", nearest(name, labels))
    parts = fold_folders(folder)
    return [ModelSource(load_of_run(config, part, name, folder), name, part) for part in parts]


def fold_folders(folder: Path) -> list[Path]:
    """Give the folders of a run's folds; its own where it has one fold."""
    return sorted(folder.glob("fold-[0-9]")) or [folder]


def best_model(diagnosis: Mapping[str, Any]) -> str:
    """Name the model that a diagnosis' headline is about: the largest captured share (or gain) at the largest N."""

    def rank(name: str) -> float:
        model = diagnosis["models"][name]
        share = (model.get("captured") or [None])[-1]
        value = share if share is not None else (model.get("gain") or [None])[-1]
        return float("-inf") if value is None else float(value)

    return max(diagnosis["models"], key=rank)


def load_of_run(config: RunConfig, folder: Path, name: str, shared: Path) -> RewardModel:
    """Load a model of a run.

    Args:
        config: the run.
        folder: of the fold.
        name: the model's.
        shared: the run's folder.

    Raises:
        InputError: it is not fitted yet.
    """
    table = next(one for one in config.reward if one.label == name)
    place = folder / "models" / name
    if not place.is_dir():
        raise InputError(str(place), "no folder", f"a fitted model (bestfor fit {shared})")
    model = load_model(place, cache=shared / "embeddings", kinds=[kind_class(table.kind)])
    if isinstance(model, MeteredModel):
        model.reach(table.options.get("endpoint", {}))
    return model


def pool_requests(folder: Path) -> Iterator[RequestBatch]:
    """Read a run's test queries with their candidates and with what their users wrote.

    Raises:
        InputError: the folder has no pool or no queries.
    """
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    wrote = folder / "histories.parquet"
    history = build_history(schema.read(wrote, schema.HISTORIES), queries) if wrote.is_file() else None
    return in_batches(_of_pool(folder, queries), history)


def _of_pool(folder: Path, queries: pa.Table) -> Iterator[AnswerRequest]:
    tests = queries.filter(pc.equal(queries["split"], "test"))  # pyright: ignore[reportAttributeAccessIssue]
    candidates = CandidatePool(folder / "pool").scan()
    known = pc.is_in(candidates["query_id"], value_set=tests["query_id"].combine_chunks())  # pyright: ignore
    rows = candidates.filter(known).sort_by([("query_id", "ascending"), ("candidate", "ascending")])
    columns = [rows[name].to_pylist() for name in ("query_id", "candidate", "text")]
    asked = {row["query_id"]: row for row in tests.select(["query_id", "user_id", "input"]).to_pylist()}
    texts: dict[str, list[tuple[int, str]]] = {}
    for query, candidate, text in zip(*columns, strict=True):
        texts.setdefault(query, []).append((candidate, text))
    for query, written in texts.items():
        numbers, said = zip(*written, strict=True)
        yield AnswerRequest(query, asked[query]["user_id"], asked[query]["input"], said, None, numbers)


def score_requests(model: RewardModel, batches: Iterable[RequestBatch]) -> Iterator[tuple[AnswerRequest, Scores]]:
    """Score requests batch by batch."""
    for batch in batches:
        users, prompts, texts = zip(*((one.user, one.prompt, one.texts) for one in batch.requests), strict=True)
        yield from zip(batch.requests, model.score_many(users, prompts, texts, batch.history), strict=True)


def narrowed(batches: Iterable[RequestBatch], picking: Picking) -> Iterator[RequestBatch]:
    """Keep the candidates of each request that are looked at."""
    for batch in batches:
        yield RequestBatch(tuple(picking.narrow(one) for one in batch.requests), batch.history)


def run_picks(folder: Path, label: str, rule: str = "best") -> pa.Table:
    """Pick of every test pool of a finished fold by a model's stored rewards.

    Args:
        folder: of the fold.
        label: the model.
        rule: one that needs no posterior.

    Returns:
        Of schema ``PICKS``, by query id; queries without any reward have no row.
    """
    rewards = schema.read(folder / "rewards" / f"{label}.parquet", schema.REWARDS)
    keys = zip(rewards["query_id"].to_pylist(), rewards["candidate"].to_pylist(), strict=True)
    mean, std = (rewards[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("mean", "std"))
    place, has_std = {key: row for row, key in enumerate(keys)}, rewards["std"].null_count < rewards.num_rows
    picking = Picking(named_rule(rule))
    rows: list[dict[str, Any]] = []
    queries = schema.read(folder / "queries.parquet", schema.QUERIES)
    for request in _of_pool(folder, queries):
        at = np.array([place[request.query, number] for number in request.candidate], dtype=np.int64)
        answer = picking.pick(request, Scores(mean[at], std[at] if has_std else None))
        if answer is not None:
            rows.append(_row(answer))
    return pa.Table.from_pylist(rows, schema=PICKS)


def _row(answer: PickedAnswer) -> dict[str, Any]:
    place, scores = answer.pick.index, answer.scores
    std = None if scores.std is None or np.isnan(scores.std[place]) else float(scores.std[place])
    return {
        "query_id": answer.request.query,
        "user_id": answer.request.user,
        "candidate": answer.request.number(place),
        "text": answer.request.texts[place],
        "reward": float(scores.mean[place]),
        "std": std,
        "rule": answer.pick.rule,
    }


def merged_picks(folders: Iterable[Path]) -> pa.Table:
    """Join the folds' ``picks.parquet``, with the column ``fold`` before the others."""
    parts = []
    for folder in folders:
        table = schema.read(folder / "picks.parquet", PICKS)
        number = pa.array(np.full(table.num_rows, int(folder.name.rpartition("-")[2])), pa.int32())
        parts.append(table.add_column(0, pa.field("fold", pa.int32(), nullable=False), number))
    return pa.concat_tables(parts)
