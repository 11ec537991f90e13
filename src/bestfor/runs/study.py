"""Run histories from Python, without a run's file: load, generate, measure, then fit and diagnose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bestfor.data import schema
from bestfor.data.candidates import Candidates
from bestfor.data.parts import CandidateParts, Split
from bestfor.data.sources.benchmarks import TASKS
from bestfor.data.sources.own import load_ratings
from bestfor.data.sources.pairs import load_pairs
from bestfor.data.sources.polis import load_polis
from bestfor.data.sources.prism import load_prism
from bestfor.data.split import Dataset, Ratings
from bestfor.diagnostics import Diagnosis, Settings
from bestfor.errors import InputError, nearest
from bestfor.files import hash_file, write_json
from bestfor.labels.table import load_labels
from bestfor.metrics import Metric, make_metric
from bestfor.policies.base import Policy
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel
from bestfor.runs.build import instruction_of
from bestfor.runs.config import DATA, Data, PairsTable, PolisTable, PrismTable, RatingsTable, SaidTable
from bestfor.runs.sampling import SamplingSettings
from bestfor.runs.sources import dataset_of
from bestfor.runs.workspace import Workspace
from bestfor.validation import WrongKey, validated


@dataclass(frozen=True)
class Generated:
    """Candidates for a data set's fit and test queries, and the folder that keeps them.

    Attributes:
        data: what they were sampled for.
        queries: table of schema ``QUERIES``: fit queries from the users' items, and the test queries.
        folder: laid out as a run's folder.
    """

    data: Dataset
    queries: pa.Table
    folder: Path

    @property
    def pool(self) -> CandidatePool:
        """The candidates."""
        return CandidatePool(self.folder / "pool")

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace(self.data, self.folder)

    def examples(self, split: Split = "fit", metric: str | None = None) -> Candidates:
        """Candidates of one split as reward models take them, with their utilities.

        Those of the fit part that have none (a judge may have nothing to say about some) are left out; in the test part
        it is NaN.

        Args:
            split: ``"fit"`` or ``"test"``.
            metric: which of the measured ones; the only one, where there is one.

        Raises:
            InputError: the metric is not measured, or there are several and none is named.
        """
        parts = self._parts(metric)
        return parts.fit if split == "fit" else parts.part("test")

    def diagnose(
        self,
        models: RewardModel | Mapping[str, RewardModel],
        n: Sequence[int] | None = None,
        *,
        metric: str | None = None,
        settings: Settings | None = None,
    ) -> Diagnosis:
        """Diagnose fitted reward models on the test queries; they see no utility.

        The models, their rewards and the diagnosis are written into the folder, where :func:`bestfor.load_run` finds
        them.

        Args:
            models: one, or several by name.
            n: where curves are drawn; powers of two by default.
            metric: as for :meth:`examples`.
            settings: how means and intervals are taken.

        Raises:
            InputError: as :meth:`examples`; a name that no file can have, or an N larger than every pool.
        """
        named = dict(models) if isinstance(models, Mapping) else {type(models).__name__.lower(): models}
        for name in named:
            if not name.strip(".") or Path(name).name != name or "\\" in name:
                raise InputError("models", f"the name {name!r}", "one that a file can have")
        parts, workspace = self._parts(metric), self._workspace
        for name, model in named.items():
            workspace.predict(parts, name, model)
            workspace.save(name, model)
        settings = replace(settings or Settings(), name=self.data.name)
        settings = replace(settings, n=tuple(n)) if n is not None else settings
        signature = {"pool": self.pool.digest, "rule": "argmax"}
        found = workspace.diagnose(parts, list(named), settings, signature)
        write_json(self.folder / "diagnosis.json", found.to_dict(), sync=False)
        return found

    def _parts(self, metric: str | None) -> CandidateParts:
        metric = self._metric(metric)
        path = self.folder / "utilities" / f"{metric}.parquet"
        return self._workspace.parts(metric, f"{self.pool.digest} {hash_file(path)}")

    def _metric(self, metric: str | None) -> str:
        folder = self.folder / "utilities"
        known = sorted(path.stem for path in folder.glob("*.parquet"))
        if metric is None and len(known) == 1:
            metric = known[0]
        if metric not in known:
            found = "nothing measured" if not known else f"metric '{metric}'" if metric else "several metrics"
            expected = nearest(str(metric), known) if known else "measure(...) first"
            raise InputError(str(folder), found, expected)
        return metric


def load(source: str, path: str | Path | None = None, **options: Any) -> Dataset | Ratings:  # noqa: ANN401 - the source's own
    """Read a data set.

    Args:
        source: ``"lamp"``, ``"longlamp"``, ``"histories"`` or ``"world"`` (histories and queries, a
            :class:`~bestfor.data.split.Dataset`), ``"polis"``, ``"table"``, ``"labels"``, ``"pairs"`` or ``"prism"``
            (ratings, a :class:`~bestfor.data.split.Ratings`).
        path: where sources have one.
        options: what ``[data]`` of a run's file takes beside, for example ``questions`` and ``outputs`` of ``"lamp"``.

    Raises:
        InputError: an unknown source or option, or bad data (file, row and field are named).
    """
    if source not in DATA:
        raise InputError("load", f"source '{source}'", nearest(source, DATA))
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    given |= {} if path is None else {"path": str(path)}

    def worded(wrong: WrongKey) -> InputError:
        found = f"{wrong.place} = {wrong.found}" if wrong.key else wrong.found.replace("unknown key", "unknown option")
        return InputError(f"load('{source}')", found, wrong.expected)

    data = validated(Data, {"source": source, **given}, worded)
    if isinstance(data, PolisTable):
        return load_polis(data.path, data.moderation)
    if isinstance(data, RatingsTable):
        return load_ratings(data.path, data.columns, duplicates=data.duplicates, signals=data.combination())
    if isinstance(data, SaidTable):
        return load_labels(data.path, data.options(), data.columns)
    if isinstance(data, PairsTable):
        return load_pairs(data.path, data.columns)
    if isinstance(data, PrismTable):
        return load_prism(data.path, data.turns)
    return dataset_of(data)


def generate(
    policy: Policy,
    data: Dataset,
    *,
    out: str | Path,
    n: int | None = None,
    sampling: SamplingSettings | None = None,
    progress: bool | None = None,
) -> Generated:
    """Sample candidates for a data set's test queries, and for fit queries made of its histories.

    What lies in the folder and matches is kept: a call that was stopped goes on to the same bytes.

    Args:
        policy: writes the candidates.
        data: from :func:`load`.
        out: the folder.
        n: candidates of a test query; by default that of ``sampling``.
        sampling: numbers, prompts and seed; an empty instruction stands for the one of the data's task.
        progress: whether to draw a bar on standard error; by default where that is a terminal.

    Raises:
        InputError: a folder that holds other data, or what the policy needs is not there.
        BestforError: a server did not give all candidates; what came is kept.
    """
    workspace = Workspace(data, Path(out))
    sampling = sampling or SamplingSettings()
    if not sampling.prompting.instruction and not sampling.prompting.published:
        prompting = replace(sampling.prompting, instruction=instruction_of(data))
        sampling = replace(sampling, prompting=prompting)
    sampling = sampling if n is None else replace(sampling, n=n)
    workspace.write_data()
    workspace.sample(policy, sampling, progress=progress)
    queries = schema.read(workspace.folder / "queries.parquet", schema.QUERIES)
    return Generated(data, queries, workspace.folder)


def measure(
    generated: Generated, metric: str | Metric | Sequence[str | Metric] | None = None, *, workers: int = 1
) -> dict[str, dict[str, float]]:
    """Measure the utility of every candidate.

    Args:
        generated: from :func:`generate`.
        metric: one or several, by name or made; by default the usual one of the data's task.
        workers: processes, for metrics that can be sent to them.

    Returns:
        By metric, the mean utility of the fit and of the test candidates.

    Raises:
        InputError: an unknown metric, an unfinished pool, or a query that lacks what a metric needs.
    """
    if metric is None:
        metric = TASKS[generated.data.task].metric if generated.data.task else "rougeL"
    given = [metric] if isinstance(metric, str) or not isinstance(metric, Sequence) else list(metric)
    metrics = [make_metric(one) if isinstance(one, str) else one for one in given]
    workspace = Workspace(generated.data, generated.folder)
    workspace.measure(workspace.write_data(), metrics, workers)
    paths = [generated.folder / "utilities" / f"{one.name}.parquet" for one in metrics]
    splits = dict(zip(generated.queries["query_id"].to_pylist(), generated.queries["split"].to_pylist(), strict=True))
    found: dict[str, dict[str, float]] = {}
    for path in paths:
        table = schema.read(path, schema.UTILITIES)
        split = np.array([splits[query] for query in table["query_id"].to_pylist()], dtype=object)
        values = table["utility"].to_numpy()
        # A split of which a judge could say nothing has no mean.
        found[path.stem] = {part: float(values[split == part].mean()) for part in ("fit", "test") if part in split}
    return found
