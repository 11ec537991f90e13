"""Open the folder of a run: its models, candidates, rewards and figures, with scores from elsewhere beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.data.frames import Roles, to_pandas
from bestfor.data.others import FILE as OTHERS_FILE
from bestfor.data.others import read_others
from bestfor.data.parts import CandidateParts, Split
from bestfor.diagnostics import Diagnosis, Reward, Settings, combine_folds
from bestfor.errors import InputError, nearest
from bestfor.pool import CandidatePool, content_hash
from bestfor.rewards import RewardModel, load_model
from bestfor.runs.config import RunConfig, load_config
from bestfor.runs.folder import load_diagnosis
from bestfor.runs.joins import Predicted, align_rewards, build_history, build_parts, diagnose_parts, read_rewards
from bestfor.runs.stages import settings_of
from bestfor.types import Scale
from bestfor.version import __version__

if TYPE_CHECKING:
    import pandas as pd

SCORES = Roles(
    {
        "query": ("query_id", "query"),
        "candidate": ("candidate",),
        "reward": ("reward", "mean", "score"),
        "std": ("std",),
    },
    frozenset({"candidate", "reward", "std"}),
    frozenset({"query", "candidate", "reward"}),
)
"""Columns of scores that are joined by query and candidate."""
CURVES = (
    *("n", "utility", "low", "high", "gain", "gain_low", "gain_high"),
    *("captured", "captured_low", "captured_high"),
)
PER_USER = ("user", "queries", "gain", "headroom", "captured", "kappa", "collapsed")


@dataclass(frozen=True)
class RunTable:
    """Table of a run, as Arrow or pandas; polars and others take it as it is.

    Attributes:
        name: says what it holds.
        table: the rows.
    """

    name: str
    table: pa.Table = field(repr=False)

    def to_arrow(self) -> pa.Table:
        """Give the rows as an Arrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """Give the rows as a pandas DataFrame.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_pandas(self.table)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return self.table.num_rows

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self)} rows of {', '.join(self.table.schema.names)})"


@dataclass(frozen=True, repr=False)
class RunRewards(RunTable):
    """Rewards of a run's test candidates by model, and scores from elsewhere.

    Attributes:
        run: whose they are.
        extra: scores that were added: name -> what each fold's test candidates got.
    """

    run: Run = field(kw_only=True)
    extra: Mapping[str, tuple[Predicted, ...]] = field(kw_only=True, default_factory=dict)

    def add(
        self,
        scores: object,
        name: str = "scores",
        *,
        scale: Scale = "arbitrary",
        columns: Mapping[str, str] | None = None,
    ) -> RunRewards:
        """Join scores from elsewhere by (query_id, candidate); nothing is written.

        Args:
            scores: a DataFrame, an Arrow table, a mapping of columns, or a file, with columns ``query_id``,
                ``candidate``, ``reward`` (or ``mean``, ``score``) and perhaps ``std``; in any order.
            name: of the model.
            scale: ``"utility"`` where they predict the utility in its own units.
            columns: other names of the columns, by query, candidate, reward, std.

        Returns:
            These rewards and the added ones; how many rows are of no use, and which candidates have no score, is in the
            notes of a diagnosis.

        Raises:
            InputError: rows that match no candidate of the run (they are counted), none that matches a test candidate,
                a candidate that stands twice, or the name of another model.
        """
        known = [*self.run.names, *self.extra]
        if name in known:
            raise InputError(
                f"scores '{name}'", "the name of another model", f"a name that is none of {', '.join(known)}"
            )
        if scale not in ("utility", "arbitrary"):
            raise InputError("scale", repr(scale), "'utility' or 'arbitrary'")
        found, _ = SCORES.find(scores, columns)
        joined = _join(found, name, [self.run.parts(fold) for fold in self.run.folds], scale)
        rows = [
            self.table,
            *(_table(self.run, fold, name, one) for fold, one in zip(self.run.folds, joined, strict=True)),
        ]
        return replace(self, table=pa.concat_tables(rows), extra={**self.extra, name: joined})

    def diagnose(self, models: Sequence[str] | None = None, settings: Settings | None = None) -> Diagnosis:
        """Diagnose these rewards on the run's test candidates, all folds together; nothing is written.

        Args:
            models: which; all where None.
            settings: where curves are drawn, how means and intervals are taken; those of the run where None.

        Raises:
            InputError: an unknown model.
        """
        names = list(models) if models is not None else [*self.run.names, *self.extra]
        for name in names:
            if name not in self.run.names and name not in self.extra:
                raise InputError("models", f"'{name}'", nearest(name, [*self.run.names, *self.extra]))
        signature: dict[str, Any] = {**self.run.signature, "models": names}
        if self.extra:
            signature["extra"] = content_hash(self.table)
        chosen = replace(settings or self.run.settings, signature=signature)
        found: list[Diagnosis] = []
        for place, fold in enumerate(self.run.folds):
            predicted = {name: self._predicted(name, place) for name in names}
            one = diagnose_parts(self.run.parts(fold), predicted, chosen, shared_texts=self.run.brings_texts)
            seen = self.run.notes(place)
            notes = {name: seen.get(name, model.notes) for name, model in predicted.items()}
            found.append(one.with_notes(notes))
        return found[0] if len(found) == 1 else combine_folds(found)

    def _predicted(self, name: str, place: int) -> Predicted:
        if name in self.extra:
            return self.extra[name][place]
        fold = self.run.folds[place]
        return read_rewards(fold / "rewards" / f"{name}.parquet", self.run.parts(fold).test)


class Run:
    """Folder of a run with what it left; read when it is asked for, and never written to.

    Args:
        folder: of ``bestfor run``, or of :func:`bestfor.generate`.

    Attributes:
        folder: the run's.
        folds: the folders of its folds; the run's own where there is one.
        config: the run as resolved, None where it was made from Python.

    Raises:
        InputError: no folder, or one without candidates.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        parts = [one for one in sorted(self.folder.glob("fold-*")) if (one / "pool").is_dir()]
        self.folds: tuple[Path, ...] = tuple(parts) or (self.folder,)
        if not (self.folds[0] / "queries.parquet").is_file() or not (self.folds[0] / "pool").is_dir():
            found = "no candidates" if self.folder.is_dir() else "no folder"
            raise InputError(str(folder), found, "the folder of a run (bestfor run, or bestfor.generate)")
        path = self.folder / "run.toml"
        self.config: RunConfig | None = load_config(path) if path.is_file() else None
        self._parts: dict[Path, CandidateParts] = {}

    def __repr__(self) -> str:
        folds = f", {len(self.folds)} folds" if len(self.folds) > 1 else ""
        return f"Run({str(self.folder)!r}, models {', '.join(self.names) or 'none'}{folds})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models whose rewards are there, in the run's order."""
        found = [path.stem for path in sorted((self.folds[0] / "rewards").glob("*.parquet"))]
        order = [] if self.config is None else [table.label for table in self.config.reward]
        return tuple(sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name)))

    def models(self, fold: int | None = None, kinds: Sequence[type[RewardModel]] = ()) -> Mapping[str, RewardModel]:
        """Give the fitted models by name; each is loaded when it is asked for.

        Args:
            fold: which of several.
            kinds: classes of one's own that they may be of.

        Raises:
            InputError: a run of several folds, and none is named.
        """
        return _Models(self._fold(fold) / "models", self.folder / "embeddings", tuple(kinds))

    def candidates(self, split: Split = "test", fold: int | None = None) -> Candidates:
        """Give the candidates with the utilities of the run's metric, as models take them.

        Args:
            split: ``"fit"`` or ``"test"``.
            fold: which of several; all of them where None.

        Raises:
            InputError: another split.
        """
        if split not in ("fit", "test"):
            raise InputError("split", repr(split), "'fit' or 'test'")
        wanted = self.folds if fold is None else (self._fold(fold),)
        found = [self.parts(one).part(split) for one in wanted]
        if len(found) == 1:
            return found[0]
        return Candidates.of_rows(pa.concat_tables([one.to_arrow() for one in found]), history=found[0].history)

    def utilities(self, metric: str | None = None) -> RunTable:
        """Give utilities: query_id, candidate, metric, utility (and fold, where there are several).

        Args:
            metric: which; all that were measured where None.

        Raises:
            InputError: it was not measured.
        """
        known = self._measured()
        if metric is not None and metric not in known:
            raise InputError(
                str(self.folder), f"metric '{metric}'", nearest(metric, known) if known else "measuring first"
            )
        names = known if metric is None else (metric,)
        paths = [[(fold / "utilities" / f"{name}.parquet", schema.UTILITIES) for name in names] for fold in self.folds]
        return RunTable("utilities", self._read(paths, schema.UTILITIES))

    def rewards(self) -> RunRewards:
        """Give rewards of the test candidates: query_id, candidate, model, mean, std (and fold)."""
        paths = [[(fold / "rewards" / f"{name}.parquet", schema.REWARDS) for name in self.names] for fold in self.folds]
        return RunRewards("rewards", self._read(paths, schema.REWARDS), run=self)

    @property
    def diagnosis(self) -> Diagnosis:
        """The run's diagnosis, read back.

        Raises:
            InputError: the run is not diagnosed.
        """
        return Diagnosis.read(self.folder)

    def per_user(self, fold: int | None = None) -> RunTable:
        """Give each user's figures at the largest N, by model.

        Args:
            fold: of one fold; the run's own where None.

        Raises:
            InputError: the run is not diagnosed.
        """
        models = self._diagnosis(fold)["models"]
        rows = [{"model": name, **row} for name, model in models.items() for row in model["per_user"]]
        columns = {name: [row[name] for row in rows] for name in ("model", *PER_USER)}
        return RunTable("per user", pa.table(columns))

    def curves(self, fold: int | None = None) -> RunTable:
        """Give each model's curves over N, with their intervals; arguments as :meth:`per_user`."""
        models = self._diagnosis(fold)["models"]
        rows = [
            {"model": name, **{key: model[key][place] for key in CURVES}}
            for name, model in models.items()
            for place in range(len(model["n"]))
        ]
        kinds = {"model": pa.string(), "n": pa.int64()}
        columns = {
            key: pa.array([row[key] for row in rows], kinds.get(key, pa.float64())) for key in ("model", *CURVES)
        }
        return RunTable("curves", pa.table(columns))

    def diagnose(
        self,
        extra: Mapping[str, object] | None = None,
        *,
        models: Sequence[str] | None = None,
        scale: Scale = "arbitrary",
        settings: Settings | None = None,
    ) -> Diagnosis:
        """Diagnose the run's rewards anew, beside scores from elsewhere; nothing is written.

        Args:
            extra: name -> scores, as :meth:`RunRewards.add` takes them.
            models: which of all; every one where None.
            scale: of the scores.
            settings: those of the run where None.

        Raises:
            InputError: as :meth:`RunRewards.add` and :meth:`RunRewards.diagnose`.
        """
        rewards = self.rewards()
        for name, scores in (extra or {}).items():
            rewards = rewards.add(scores, name, scale=scale)
        return rewards.diagnose(models, settings)

    def parts(self, fold: Path) -> CandidateParts:
        """Code a fold's candidates, once."""
        if fold not in self._parts:
            queries = schema.read(fold / "queries.parquet", schema.QUERIES)
            path = fold / "histories.parquet"
            history = build_history(schema.read(path, schema.HISTORIES), queries) if path.is_file() else None
            metric = self._metric()
            place = fold / "utilities" / f"{metric}.parquet"
            utilities = None if metric is None else schema.read(place, schema.UTILITIES)
            parts = build_parts(queries, CandidatePool(fold / "pool").scan(), utilities, history)
            self._parts[fold] = parts.with_others(read_others(fold / OTHERS_FILE))
        return self._parts[fold]

    @cached_property
    def signature(self) -> Mapping[str, Any]:
        """Notes of the run's diagnosis on data and models; the data's alone where there is none."""
        if (self.folder / "diagnosis.json").is_file():
            kept = ("data", "policy", "metric", "pool", "rule", "split", "seed")
            found = load_diagnosis(self.folder)["signature"]
            return {"version": __version__, **{key: found[key] for key in kept if key in found}}
        path = self.folds[0] / "signature.json"
        data = json.loads(path.read_text(encoding="utf-8")).get("data", "") if path.is_file() else ""
        return {"version": __version__, "data": data, "rule": "argmax"}

    def notes(self, fold: int = 0) -> Mapping[str, tuple[str, ...]]:
        """Give what the diagnosis of a fold notes of data and models, by model; nothing where there is none."""
        folder = self.folds[fold]
        if not (folder / "diagnosis.json").is_file():
            return {}
        return {name: tuple(model.get("notes", ())) for name, model in load_diagnosis(folder)["models"].items()}

    @property
    def settings(self) -> Settings:
        """Settings of the run's diagnosis: its file's, or those that its diagnosis shows."""
        if self.config is not None:
            return settings_of(self.config, self.folder.name)
        if not (self.folder / "diagnosis.json").is_file():
            return Settings(name=self.folder.name)
        found = load_diagnosis(self.folder)
        n = next((model["n"] for model in found["models"].values()), None)
        kept = {key: found["signature"][key] for key in ("averaging", "level") if key in found["signature"]}
        return Settings(n=n, name=found.get("name", self.folder.name), **kept)

    @property
    def brings_texts(self) -> bool:
        """True where people rated texts that others rated too."""
        return self.config is not None and self.config.door == "ratings"

    def _fold(self, fold: int | None) -> Path:
        if fold is None and len(self.folds) == 1:
            return self.folds[0]
        if fold is None or not 0 <= fold < len(self.folds):
            found = "no fold" if fold is None else f"fold {fold}"
            raise InputError(str(self.folder), found, f"fold = 0 to {len(self.folds) - 1}, one of its folds")
        return self.folds[fold]

    def _measured(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in (self.folds[0] / "utilities").glob("*.parquet")))

    def _metric(self) -> str | None:
        """Name the metric that models learned: the diagnosis', the run's, or the only one."""
        known = self._measured()
        path = self.folds[0] / "diagnosis.json"
        named = load_diagnosis(self.folds[0])["signature"].get("metric") if path.is_file() else None
        if named is None and self.config is not None:
            named = self.config.utility.primary or next(iter(self.config.utility.metrics), None)
        if named in known:
            return named
        if len(known) > 1:
            raise InputError(
                str(self.folder), f"several metrics ({', '.join(known)})", "a run that says which models learn"
            )
        return known[0] if known else None

    def _read(self, paths: Sequence[Sequence[tuple[Path, pa.Schema]]], empty: pa.Schema) -> pa.Table:
        """Read tables of each fold, one after another; a column says the fold where there are several."""
        tables: list[pa.Table] = []
        for fold, wanted in enumerate(paths):
            one = pa.concat_tables([schema.read(*path) for path in wanted] or [empty.empty_table()])
            tables.append(one.append_column("fold", pa.array(np.full(len(one), fold))) if len(paths) > 1 else one)
        return pa.concat_tables(tables)

    def _diagnosis(self, fold: int | None) -> dict[str, Any]:
        return load_diagnosis(self.folder if fold is None else self._fold(fold))


def load_run(folder: str | Path) -> Run:
    """Open the folder of a run that ``bestfor run`` made, or that of :func:`bestfor.generate`.

    Raises:
        InputError: no such folder, or one without candidates.
    """
    return Run(folder)


class _Models(Mapping[str, RewardModel]):
    """Mapping of names to saved models, each loaded when it is first asked for."""

    def __init__(self, folder: Path, cache: Path, kinds: tuple[type[RewardModel], ...]) -> None:
        self._folder, self._cache, self._kinds = folder, cache, kinds
        self._loaded: dict[str, RewardModel] = {}

    def __getitem__(self, name: str) -> RewardModel:
        if name not in self._loaded:
            if name not in iter(self):
                raise KeyError(name)
            cache = self._cache if self._cache.is_dir() else None
            self._loaded[name] = load_model(self._folder / name, cache=cache, kinds=self._kinds)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.parent.name for path in self._folder.glob("*/config.json")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"models({', '.join(self)})"


def _join(scores: pa.Table, name: str, folds: Sequence[CandidateParts], scale: Scale) -> tuple[Predicted, ...]:
    """Bring scores into the order of each fold's test candidates."""
    where = f"scores '{name}'"
    number = scores["candidate"].to_numpy(zero_copy_only=False)
    if not np.all(np.isfinite(number) & (number == np.floor(number)) & (np.abs(number) < 2**31)):
        raise InputError(where, "a candidate that is no whole number", "0, 1, 2, ...")
    std = scores["std"] if "std" in scores.schema.names else pa.nulls(len(scores), pa.float64())
    columns = [scores["query"], pa.array(number.astype(np.int32)), pa.nulls(len(scores), pa.string())]
    table = pa.table([*columns, scores["reward"], std], names=schema.REWARDS.names)
    _check_distinct(table, where)
    pairs = set(zip(table["query_id"].to_pylist(), table["candidate"].to_pylist(), strict=True))
    known, tested = _pairs(folds)
    strange = sorted(pairs - known)
    if strange:
        one = f"query '{strange[0][0]}', candidate {strange[0][1]}"
        found = f"{len(strange)} of {len(pairs)} rows that match no candidate ({one}, is one)"
        raise InputError(where, found, "query_id and candidate as candidates().to_arrow() of the run has them")
    if not pairs & tested:
        raise InputError(where, f"none of {len(tested)} test candidates among {len(pairs)} rows", "their scores")
    notes: list[str] = []
    if pairs - tested:
        notes.append(f"{len(pairs - tested)} of {len(pairs)} scores are of fit candidates, which are not diagnosed")
    if tested - pairs:
        notes.append(f"{len(tested - pairs)} of {len(tested)} test candidates have no score: they are left out for all")
    joined: list[Predicted] = []
    for parts in folds:
        mean, deviation = align_rewards(table, parts.test)
        joined.append(Predicted(Reward(mean, scale, deviation if scale == "utility" else None), tuple(notes)))
    return tuple(joined)


def _pairs(folds: Sequence[CandidateParts]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Collect (query, candidate) of all candidates, and of the test candidates."""
    known: set[tuple[str, int]] = set()
    tested: set[tuple[str, int]] = set()
    for parts in folds:
        whole, test = parts.whole, parts.test
        known.update((whole.queries[at], one) for at, one in zip(whole.query, whole.candidate.tolist(), strict=True))
        tested.update((test.queries[at], one) for at, one in zip(test.query, test.candidate.tolist(), strict=True))
    return known, tested


def _check_distinct(table: pa.Table, where: str) -> None:
    counts = table.group_by(["query_id", "candidate"]).aggregate([([], "count_all")])
    twice = counts.filter(pa.array(counts["count_all"].to_numpy() > 1))
    if twice.num_rows:
        query, candidate = twice["query_id"][0].as_py(), twice["candidate"][0].as_py()
        found = f"{twice.num_rows} candidates that stand twice (query '{query}', candidate {candidate}, is one)"
        raise InputError(where, found, "each candidate once")


def _table(run: Run, fold: Path, name: str, predicted: Predicted) -> pa.Table:
    """Lay joined scores out as the table of rewards has them."""
    test, reward = run.parts(fold).test, predicted.reward
    count = len(test)
    columns: dict[str, Any] = {
        "query_id": pa.array(test.queries).take(pa.array(test.query)),
        "candidate": pa.array(test.candidate, pa.int32()),
        "model": pa.repeat(name, count),
        "mean": pa.array(reward.mean, from_pandas=True),
        "std": pa.nulls(count, pa.float64()) if reward.std is None else pa.array(reward.std, from_pandas=True),
    }
    table = pa.table(columns, schema=schema.REWARDS)
    if len(run.folds) == 1:
        return table
    return table.append_column("fold", pa.array(np.full(count, run.folds.index(fold))))
