"""Do the stages of one data set in its folder: the one implementation that a run's file and calls from Python fill.

A stage is a method that is called and returns the hash of what it leaves. Candidates are coded once; what models
predict stays in memory as arrays aligned with the test part, and Parquet is what is written beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bestfor.backends import Backend
from bestfor.backends.parts import WorkPart
from bestfor.data import schema
from bestfor.data.candidates import Candidates, History
from bestfor.data.others import FILE as OTHERS_FILE
from bestfor.data.parts import CandidateParts
from bestfor.data.said import FILE as SAID_FILE
from bestfor.data.split import Dataset
from bestfor.diagnostics import Diagnosis, Settings
from bestfor.errors import InputError
from bestfor.files import write_json
from bestfor.metrics import Metric
from bestfor.metrics.check import check_metric
from bestfor.policies.base import Policy
from bestfor.pool import CandidatePool
from bestfor.rewards import RewardModel
from bestfor.runs.diagnosed import RATING as RATING
from bestfor.runs.folder import check_same_data
from bestfor.runs.joins import (
    Predicted,
    build_history,
    build_parts,
    diagnose_parts,
    predict_test,
    read_rewards,
    write_rewards,
)
from bestfor.runs.measuring import awaited_parts, forget_unanswered, measure_pool
from bestfor.runs.sampling import SamplingSettings, generate
from bestfor.runs.steps import Steps, digest
from bestfor.runs.usage import notes_of, record_usage
from bestfor.version import __version__

Tell = Callable[[str], None]
"""Called with one line of progress."""
SAMPLING = "sample"
"""Name of the record of what decided a run's candidates."""


@dataclass(frozen=True)
class _Coded:
    """The coded candidates with the utilities of one metric, and what was measured when they were read."""

    metric: str
    measured: str
    parts: CandidateParts


class Workspace:
    """Folder of one data set, and what is done in it.

    Args:
        data: histories and queries, and candidates with utilities where people rated texts.
        folder: holds ``pool``, ``queries.parquet``, ``utilities``, ``models``, ``rewards`` and ``diagnosis.json``.
        tell: called with one line a step; None says nothing but how far long work is.
        foresee: do and write nothing, note in ``steps.foreseen`` what would be done.

    Raises:
        InputError: the folder holds the results of other data.
    """

    def __init__(self, data: Dataset, folder: Path, tell: Tell | None = None, *, foresee: bool = False) -> None:
        check_same_data(folder, data)
        self.data, self.folder = data, folder
        self._tell = tell
        self.steps = Steps(folder, tell or _say_nothing, foresee)
        self._coded: _Coded | None = None
        self._history: tuple[History | None] | None = None
        self._predicted: dict[str, Predicted] = {}
        self._told: CandidateParts | None = None

    @property
    def pool(self) -> CandidatePool:
        """All candidates, on disk."""
        return CandidatePool(self.folder / "pool")

    def write_data(self) -> str:
        """Write the data's own tables; returns their hash."""

        def work() -> None:
            schema.write(self.data.histories, self.folder / "histories.parquet")
            signature = {"data": self.data.signature, "version": __version__}
            write_json(self.folder / "signature.json", signature, sync=False)

        outputs = ["histories.parquet", "signature.json"]
        return self.steps.run("data", {"data": self.data.signature}, outputs, work)

    def write_ratings(self, start: str) -> str:
        """Write the candidates and the ratings that the data bring.

        Args:
            start: hash that :meth:`write_data` returned.

        Returns:
            The hash of candidates and utilities.

        Raises:
            InputError: the data bring none.
        """
        candidates, utilities = self.data.candidates, self.data.utilities
        if candidates is None or utilities is None:
            raise InputError(self.data.name, "no candidates in the data", "ratings, which bring their candidates")

        def work() -> None:
            self.pool.plan([self.pool.append(candidates)])
            schema.write(self.data.queries, self.folder / "queries.parquet")
            schema.write(utilities, self.folder / "utilities" / f"{RATING}.parquet")
            if self.data.said is not None:
                schema.write(self.data.said, self.folder / SAID_FILE)
            if self.data.others is not None:
                schema.write(self.data.others, self.folder / OTHERS_FILE)

        outputs = ["pool", "queries.parquet", f"utilities/{RATING}.parquet"]
        outputs += [SAID_FILE] if self.data.said is not None else []
        outputs += [OTHERS_FILE] if self.data.others is not None else []
        return self.steps.run("pool", {"data": start}, outputs, work)

    def sample(
        self,
        policy: Policy,
        settings: SamplingSettings,
        *,
        progress: bool | None = None,
        backend: Backend | None = None,
        part: WorkPart | None = None,
    ) -> str:
        """Sample what is owed into the pool, and write the table of queries; returns the pool's hash, "" for a part.

        Sampling keeps its own record (parts of the pool), so that a call killed within it goes on where it was.

        Raises:
            InputError: what the policy needs is not there.
            BestforError: a server did not give all candidates; what came is kept.
        """
        data, pool, tell = self.data, self.pool, self.steps.tell
        self.steps.explain(SAMPLING, sampling_inputs(data, policy, settings))
        with record_usage(self.folder, "policy", policy, tell):
            tables = data.histories, data.queries
            how = {"progress": progress, "tell": self._tell, "backend": backend, "part": part}
            queries = generate(policy, *tables, pool, settings, **how)
        schema.write(queries, self.folder / "queries.parquet")
        if part is not None:
            return ""
        dropped = pool.prompts.get("items_dropped", 0)
        if dropped:
            prompts = pool.prompts["prompts_with_dropped_items"]
            tell(f"pool: {dropped} history items found no room in {prompts} of {pool.prompts['queries']} prompts")
        return pool.digest

    def measure(
        self,
        start: str,
        metrics: Sequence[Metric],
        workers: int = 1,
        *,
        backend: Backend | None = None,
        part: WorkPart | None = None,
    ) -> str:
        """Measure a sampled pool.

        Args:
            start: hash that :meth:`write_data` returned.
            metrics: what is measured.
            workers: processes, for metrics that can be sent to them.
            backend: who measures; None takes ``workers`` processes of this machine.
            part: measures that part alone, and keeps what it found for the call that measures all.

        Returns:
            The hash of candidates and utilities, "" for a part.

        Raises:
            InputError: the pool is not there, or not finished.
        """
        for metric in metrics:
            check_metric(metric)
        pool = self.pool
        if not (self.folder / "queries.parquet").is_file():
            raise InputError(str(self.folder), "no candidates", "those that bestfor generate leaves there")
        queries = schema.read(self.folder / "queries.parquet", schema.QUERIES)
        inputs = {"data": start, "pool": pool.digest, "metrics": [metric.signature for metric in metrics]}

        def work() -> None:
            with ExitStack() as stack:
                for metric in metrics:
                    stack.enter_context(record_usage(self.folder, metric.name, metric, self.steps.tell))
                how = {"workers": workers, "backend": backend, "part": part}
                measure_pool(pool, queries, metrics, self.folder / "utilities", **how)

        outputs = [f"utilities/{metric.name}.parquet" for metric in metrics]
        if part is not None:
            if not self.steps.left("measure", inputs, outputs):
                work()
            return ""
        if not self.steps.foresee:
            forget_unanswered(self.folder / "utilities", [metric.name for metric in metrics])
        return self.steps.run("measure", inputs, outputs, work)

    def awaited(self, metrics: Sequence[Metric], count: int) -> set[int]:
        """Find those of n parts of a sampled pool that were not measured to their end."""
        queries = schema.read(self.folder / "queries.parquet", schema.QUERIES)
        return awaited_parts(self.pool, queries, metrics, self.folder / "utilities", count)

    def parts(self, metric: str, measured: str) -> CandidateParts:
        """Code the candidates, once for as long as they and their utilities are the same.

        Args:
            metric: whose utilities they get.
            measured: the hash that measuring left.

        Raises:
            InputError: a file is absent or damaged, or parts of the pool are missing.
        """
        if self._coded is None or (self._coded.metric, self._coded.measured) != (metric, measured):
            self._coded = _Coded(metric, measured, self._read_parts(metric))
        return self._coded.parts

    def _read_parts(self, metric: str) -> CandidateParts:
        if self.data.coded is not None and metric == RATING:
            return self.data.coded
        queries = schema.read(self.folder / "queries.parquet", schema.QUERIES)
        utilities = schema.read(self.folder / "utilities" / f"{metric}.parquet", schema.UTILITIES)
        if self._history is None:
            self._history = (build_history(self.data.histories, queries),)
        return build_parts(queries, self.pool.scan(), utilities, self._history[0])

    def fit_part(self, parts: CandidateParts) -> Candidates:
        """Take the labelled rows of the fit part, and say how many have no label.

        Raises:
            InputError: nobody has a labelled candidate.
        """
        if len(parts.fit) == 0:
            raise InputError(str(self.folder), "no labelled candidates to fit on", "at least one")
        total, without = parts.fit_count, parts.fit_count - len(parts.fit)
        if without and self._told is not parts:
            self.steps.tell(f"fit: {without} of {total} candidates have no utility: none is learned from")
        self._told = parts
        return parts.fit

    def save(self, label: str, model: RewardModel) -> str:
        """Store a fitted model under a name; returns its content hash."""
        return model.save(self.folder / "models" / label)

    def predict(self, parts: CandidateParts, label: str, model: RewardModel) -> Predicted:
        """Predict the rewards of the test part, keep them and write them under a name."""
        return self.keep_predicted(parts, label, predict_test(parts, model))

    def keep_predicted(self, parts: CandidateParts, label: str, predicted: Predicted) -> Predicted:
        """Keep rewards of the test part and write them under a name."""
        write_rewards(self.folder / "rewards" / f"{label}.parquet", parts.test, label, predicted)
        self._predicted[label] = predicted
        return predicted

    def predicted(self, parts: CandidateParts, label: str) -> Predicted:
        """Give the rewards of the test part by a model: what was predicted here, or what lies on disk."""
        if label not in self._predicted:
            path = self.folder / "rewards" / f"{label}.parquet"
            self._predicted[label] = read_rewards(path, parts.test)
        return self._predicted[label]

    def diagnose(
        self, parts: CandidateParts, labels: Sequence[str], settings: Settings, signature: Mapping[str, Any]
    ) -> Diagnosis:
        """Diagnose models whose rewards are predicted.

        Args:
            parts: the candidates.
            labels: the models.
            settings: where curves are drawn, how means and intervals are taken.
            signature: what is known of the data and the models, beside version and rule.

        Raises:
            InputError: as :func:`~bestfor.runs.joins.diagnose_parts`.
        """
        predicted = {label: self.predicted(parts, label) for label in labels}
        settings = replace(settings, signature={"version": __version__, "data": self.data.signature, **signature})
        found = diagnose_parts(parts, predicted, settings, shared_texts=self.data.candidates is not None)
        seen = notes_of(self.folder)
        return found.with_notes({name: (*one.notes, *self.data.notes, *seen) for name, one in predicted.items()})


def sampling_inputs(data: Dataset, policy: Policy, settings: SamplingSettings) -> dict[str, Any]:
    """List what decides the candidates of a run, by name, so that changes can be told; parts of the pool have keys."""
    prompting = settings.prompting
    shown = {"instruction": prompting.instruction, "items": prompting.items, "retriever": prompting.retriever}
    shown |= {"published": prompting.published, "tokens": prompting.tokens, "too_long": prompting.too_long}
    shown["encoder"] = None if prompting.encoder is None else prompting.encoder.name
    if prompting.items_from != "own":
        shown["items_from"] = prompting.items_from
    if prompting.profiles is not None:
        shown["profiles"] = digest(prompting.profiles.texts)
    counts = {name: getattr(settings, name) for name in ("n", "fit_n", "fit_items", "fit_share", "seed")}
    return {"data": data.signature, "policy": policy.signature, "prompts": shown, **counts}


def _say_nothing(line: str) -> None:
    """Take a line of progress and show nothing."""
