"""Do the stages of a run's file one by one: data, candidates, utilities, reward models, rewards, diagnosis.

Each is a method that skips what is there and matches, and returns the hash of what it leaves. ``bestfor run`` does them
all; the verbs ``generate``, ``measure``, ``fit`` and ``predict`` do them one at a time. What a stage does is in
:mod:`bestfor.runs.workspace`; what the run's file says of it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bestfor.backends import Local
from bestfor.backends.parts import WorkPart
from bestfor.data.parts import CandidateParts
from bestfor.data.split import Dataset, Ratings
from bestfor.diagnostics import Diagnosis, Settings
from bestfor.errors import InputError
from bestfor.files import sweep
from bestfor.metrics import metric_class
from bestfor.policies import make_policy
from bestfor.rewards import RewardModel, kind_class, load_model
from bestfor.runs.adapters import attach_adapters
from bestfor.runs.build import backend_of, metric_names, metrics_of, primary_metric, prompting_of, sampling_of
from bestfor.runs.config import RewardTable, RunConfig
from bestfor.runs.feedback import sample_with_feedback, take_fitted
from bestfor.runs.folder import write_run
from bestfor.runs.joins import Predicted, forget_unanswered_rewards, predict_test, read_rewards, write_rewards
from bestfor.runs.profiles import attach_profiles
from bestfor.runs.shots import unit_of, users_of_fold, with_shots
from bestfor.runs.sources import load_dataset, read_ratings, with_split
from bestfor.runs.spread import ModelTask, count_unencoded, encode_for, fit_models, predict_models, write_files
from bestfor.runs.steps import OWED, ForeseenStep, Steps, digest
from bestfor.runs.turns import locked_step
from bestfor.runs.usage import MeteredModel, record_usage
from bestfor.runs.workspace import Tell, Workspace
from bestfor.types import IntArray
from bestfor.version import __version__


def folds(
    config: RunConfig,
    out: str | Path,
    tell: Tell,
    ratings: Ratings | None = None,
    *,
    foresee: bool = False,
    part: WorkPart | None = None,
) -> Iterator[Stages]:
    """Open the stages of each fold of a run; one where there is one fold. A source of ratings is read once.

    Args:
        config: the run.
        out: its folder.
        tell: called with one line a step.
        ratings: the run's, where they are read already.
        foresee: do and write nothing, see :mod:`bestfor.runs.foreseen`.
        part: does that part of the work alone; None does all.

    Raises:
        InputError: bad data, an option without sense here, or a folder that holds another run's pool.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(str(folder), "a file", "a folder for the run")
    if config.door == "ratings":
        ratings = read_ratings(config) if ratings is None else ratings
        config = with_split(config, ratings)
    if config.split.fold != "all":
        yield Stages(config, folder, folder, tell, ratings, foresee=foresee, part=part)
        return
    if ratings is None:
        raise InputError("[split] fold", "'all'", "0 for histories: their test queries are given, not split")
    for fold in (0, 1, 2):
        tell(f"fold {fold}")
        # Nothing here holds on to a fold that is done: memory holds one.
        stages = _open_fold(config, fold, folder, tell, ratings, foresee)
        stages.part = part
        yield stages
        del stages


def _open_fold(config: RunConfig, fold: int, folder: Path, tell: Tell, ratings: Ratings, foresee: bool) -> Stages:
    stages = Stages(of_fold(config, fold), folder / f"fold-{fold}", folder, tell, ratings, foresee=foresee)
    if not foresee:
        write_run(config, folder)
    return stages


def of_fold(config: RunConfig, fold: int) -> RunConfig:
    """Take one fold of a run of all folds."""
    return config.model_copy(update={"split": config.split.model_copy(update={"fold": fold})})


class Stages:
    """A run folder of one fold and what is done in it.

    A stage does what has to be done before it, each at most once for an object, however many stages need it; sampling
    alone is never done by another stage, so that what is costly is asked for by name.

    Args:
        config: the run, of one fold.
        folder: where its files lie.
        shared: where the folds of a run keep what they share.
        tell: called with one line a step.
        ratings: the run's, where they are read already.
        foresee: do and write nothing; stages but :meth:`sample` note in their steps what they would do.
        part: does that part of the work alone; None does all.

    Raises:
        InputError: bad data, an N that no pool can answer, or a folder that holds the results of other data.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        shared: Path,
        tell: Tell,
        ratings: Ratings | None = None,
        *,
        foresee: bool = False,
        part: WorkPart | None = None,
    ) -> None:
        self.config, self.folder, self.part = config, folder, part
        self.backend = backend_of(config)
        self.data = load_dataset(config, ratings)
        _check_n(config, self.data)
        self.workspace = Workspace(self.data, folder, tell, foresee=foresee)
        self._steps = self.workspace.steps
        self._shared, self._cache = shared, shared / "embeddings"
        self._hashes: dict[str, str] = {}
        self._fitted: tuple[str, RewardModel] | None = None
        if not foresee:
            sweep(folder)
            write_run(config, folder)
        tell(f"data: {self.data.name}, {len(self.data.queries)} queries")
        for note in self.data.notes:
            tell(f"data: {note}")

    @property
    def steps(self) -> Steps:
        """Steps that are done here, or foreseen."""
        return self._steps

    def owe(self, stage: str, name: str, why: str) -> None:
        """Note a step as owed whose inputs cannot be known yet, so that later stages follow it."""
        self._steps.foreseen.append(ForeseenStep(name, True, why))
        self._hashes[stage] = OWED + name

    def check_ready(self) -> None:
        """Look for what reward models that are not fitted yet will need, before anything is sampled or fitted.

        Raises:
            InputError: a checkpoint, a device or a key that is not here.
        """
        for table in self.config.reward:
            if not (self.folder / "models" / table.label).is_dir():
                self._new_model(table).ready()

    def write_data(self) -> str:
        """Write the data's own tables; returns their hash."""
        return self._once("data", self.workspace.write_data)

    def sample(self) -> str:
        """Sample the candidates that are owed; where they are in the data there is nothing to sample.

        Returns:
            The pool's hash, or that of the data where they bring the candidates.

        Raises:
            InputError: a query without the reference that a metric of the run needs: known before anything is sampled.
        """
        start = self.write_data()
        if self.data.candidates is not None:
            return start
        config, data = self.config, self.data
        _check_references(data, metric_names(config, data))
        if config.policy.feedback is not None:
            if self.part is not None:
                found = "a policy of kind 'feedback', whose test candidates wait for all of the fit part"
                raise InputError("--part", found, "bestfor generate without --part")
            return sample_with_feedback(config, data, self._steps)
        prompting, policy = prompting_of(config, data, self.folder), make_policy(config.policy)
        with nullcontext() if self.part is None else locked_step(self.folder, "adapters"):
            prompting = attach_profiles(policy, config, data, prompting, self._steps, backend=self.backend)
            policy = attach_adapters(policy, config, data, prompting, self._steps)
        settings = sampling_of(config, prompting)
        return self.workspace.sample(policy, settings, backend=self.backend, part=self.part)

    def measure(self) -> str:
        """Measure what is not measured yet, or write the data's ratings; returns the hash of candidates and utilities.

        Raises:
            InputError: candidates that have to be sampled are not all there.
        """
        start = self.write_data()
        if self.data.candidates is not None:
            return self._once("measured", lambda: self.workspace.write_ratings(start))

        def work() -> str:
            metrics = metrics_of(self.config, metric_names(self.config, self.data), self.folder)
            backend = backend_of(self.config, self.config.utility.workers)
            return self.workspace.measure(start, metrics, backend=backend)

        return self._once("measured", work)

    def measure_part(self) -> set[int]:
        """Measure this part of the candidates, and keep what was found for the call that measures all.

        Returns:
            The parts that are not measured yet.
        """
        start, part = self.write_data(), self.part or WorkPart()
        if self.data.candidates is not None:
            return set()
        metrics = metrics_of(self.config, metric_names(self.config, self.data), self.folder)
        backend = backend_of(self.config, self.config.utility.workers)
        self.workspace.measure(start, metrics, backend=backend, part=part)
        return self.workspace.awaited(metrics, part.count)

    def parts(self) -> CandidateParts:
        """Code the run's candidates, measured."""
        return self.workspace.parts(primary_metric(self.config, self.data), self.measure())

    def fit(self, table: RewardTable) -> str:
        """Fit a reward model; returns the hash of its files.

        Raises:
            InputError: nobody has a labelled candidate.
        """

        def work() -> None:
            model, part = self._new_model(table), self.workspace.fit_part(self.parts())
            if take_fitted(self.config, table, part, self._steps, self.folder / "models" / table.label):
                return
            with self._record_usage(table, model):
                self.workspace.save(table.label, model.fit(part, rng=self.config.seed))
            self._fitted = table.label, model

        name, inputs, outputs = self._fit_step(table)
        return self._once(name, lambda: self._steps.run(name, inputs, outputs, work))

    def _fit_step(self, table: RewardTable) -> tuple[str, dict[str, Any], list[str]]:
        inputs = {"measured": self.measure(), "kind": table.kind, "options": table.options, "seed": self.config.seed}
        inputs["version"] = __version__
        return f"fit {table.label}", inputs, [f"models/{table.label}"]

    def predict(self, table: RewardTable) -> str:
        """Predict the rewards of the test candidates without their utilities; returns the hash of their table."""

        def work() -> None:
            model = self._fitted_model(table)
            with self._record_usage(table, model):
                self.workspace.predict(self.parts(), table.label, model)

        name, inputs, outputs = self._predict_step(table)

        def once() -> str:
            if not self._steps.foresee:
                forget_unanswered_rewards(self.folder / "rewards" / f"{table.label}.parquet")
            return self._steps.run(name, inputs, outputs, work)

        found = self._once(name, once)
        self._fitted = None
        return found

    def _predict_step(self, table: RewardTable) -> tuple[str, dict[str, Any], list[str]]:
        inputs = {"model": self.fit(table), "measured": self.measure()}
        return f"predict {table.label}", inputs, [f"rewards/{table.label}.parquet"]

    def encode(self) -> dict[str, int]:
        """Encode what the run's reward models will read and the cache lacks; of a part, the texts that fall to it.

        Returns:
            How many texts were encoded, by encoder.

        Raises:
            InputError: a part before the candidates are measured.
        """
        if self.part is not None:
            self._check_measured()
        return encode_for(self.config.reward, self.parts(), self._cache, self.backend, self._steps.tell, self.part)

    def unencoded(self) -> int:
        """Count the texts that :meth:`encode` would encode without a part."""
        return count_unencoded(self.config.reward, self.parts(), self._cache)

    def fit_together(self, tables: Sequence[RewardTable]) -> None:
        """Fit what is owed of some models by the backend, where it has several workers; :meth:`fit` finds it done."""
        if not self._spreads():
            return
        steps = {one.label: self._fit_step(one) for one in tables}
        owed = [one for one in tables if not self.asks_server(one) and not self._steps.left(*steps[one.label])]
        if len(owed) < self._least() or self.config.policy.feedback is not None:
            return
        part = self.workspace.fit_part(self.parts())
        encode_for(owed, self.parts(), self._cache, self.backend, self._steps.tell)
        models = [ModelTask(one.label, one.kind, one.options) for one in owed]
        for label, files in fit_models(self.backend, models, part, self.config.seed, self._cache):
            folder = self.folder / "models" / label
            self._steps.run(*steps[label], partial(write_files, files, folder))

    def predict_together(self, tables: Sequence[RewardTable]) -> None:
        """Predict what is owed of some models by the backend, where it has several workers; see :meth:`predict`."""
        if not self._spreads():
            return
        self.fit_together(tables)
        steps = {one.label: self._predict_step(one) for one in tables}
        owed = [one for one in tables if not self.asks_server(one) and not self._steps.left(*steps[one.label])]
        if len(owed) < self._least():
            return
        parts, models = self.parts(), [ModelTask(one.label, one.kind, one.options) for one in owed]
        for label, found in predict_models(self.backend, models, self.folder / "models", parts.test, self._cache):
            self._steps.run(*steps[label], partial(self._keep, parts, label, found))

    def _keep(self, parts: CandidateParts, label: str, found: Predicted) -> None:
        self.workspace.keep_predicted(parts, label, found)

    def own_models(self) -> list[RewardTable]:
        """List the models that this part fits and asks, by their place among those of all folds; all without a part.

        Raises:
            InputError: a part before the candidates are measured: each would measure all of them.
        """
        if self.part is None:
            return list(self.config.reward)
        self._check_measured()
        fold = int(self.config.split.fold) if self.folder != self._shared else 0
        before = fold * len(self.config.reward)
        return [one for number, one in enumerate(self.config.reward) if self.part.has(before + number)]

    def _check_measured(self) -> None:
        if self.data.candidates is None and not (self.folder / ".steps" / "measure.json").is_file():
            raise InputError("--part", "candidates that are not measured", "bestfor measure before it, for all parts")

    def _spreads(self) -> bool:
        alone = isinstance(self.backend, Local) and self.backend.workers < 2
        return not alone and not self._steps.foresee

    def _least(self) -> int:
        """Count the models from which other processes are worth it: here one is fitted as well by this process."""
        return 2 if isinstance(self.backend, Local) else 1

    def diagnose(self) -> Diagnosis:
        """Diagnose the run's reward models, which are fitted and asked where they are not yet."""
        config = self.config
        self.predict_together(config.reward)
        rewards = {table.label: self.predict(table) for table in config.reward}
        signature = {
            "policy": "human" if config.door == "ratings" else config.policy.model_dump(),
            "metric": primary_metric(config, self.data),
            "reward": digest({name: rewards[name] for name in sorted(rewards)}),
            "rule": "argmax",
            "split": config.split.model_dump(exclude_none=True),
            "seed": config.seed,
        }
        return self.workspace.diagnose(self.parts(), list(rewards), settings_of(config, self.data.name), signature)

    def predicted(self) -> dict[str, Predicted]:
        """Give the rewards of the test candidates by each model."""
        for table in self.config.reward:
            self.predict(table)
        parts = self.parts()
        return {table.label: self.workspace.predicted(parts, table.label) for table in self.config.reward}

    def predict_after(self, table: RewardTable, shots: int) -> tuple[CandidateParts, Predicted]:
        """Fit a model again with so many labels of the fold's users, and predict their test answers.

        Args:
            table: the model.
            shots: see :func:`bestfor.runs.shots.with_shots`.

        Returns:
            The candidates, and the rewards of their test part.
        """
        config, parts = self.config, self.parts()
        fold = int(config.split.fold)
        cut = with_shots(parts, fold, shots, unit=unit_of(parts), seed=config.seed)
        path = f"shots/{table.label}-{shots}.parquet"

        def work() -> None:
            model = self._new_model(table).fit(cut.fit, rng=config.seed)
            write_rewards(self.folder / path, cut.test, table.label, predict_test(cut, model))

        inputs = {"measured": self.measure(), "kind": table.kind, "options": table.options, "seed": config.seed}
        inputs |= {"fold": fold, "version": __version__}
        self._steps.run(f"shots {table.label}, {shots}", inputs, [path], work)
        return cut, read_rewards(self.folder / path, cut.test)

    def asks_server(self, table: RewardTable) -> bool:
        """Tell whether each fit of a model asks a server anew."""
        return isinstance(self._new_model(table), MeteredModel)

    def has_users_of_fold(self) -> bool:
        """Tell whether any of the fold's users is tested."""
        parts = self.parts()
        return bool(users_of_fold(parts, int(self.config.split.fold))[parts.owner[parts.tested]].any())

    def of_fold_users(self, predicted: Mapping[str, Predicted]) -> tuple[CandidateParts, dict[str, Predicted]]:
        """Take the test answers of the fold's users, and the rewards that models fitted on everything gave them."""
        parts = self.parts()
        cut = with_shots(parts, int(self.config.split.fold), None, unit="labels", seed=0)
        rows = users_of_fold(parts, int(self.config.split.fold))[parts.whole.user[parts.tested[parts.whole.query]]]
        rewards = {
            name: replace(one, reward=replace(one.reward, mean=one.reward.mean[rows], std=None))
            for name, one in predicted.items()
        }
        return cut, rewards

    def _fitted_model(self, table: RewardTable) -> RewardModel:
        """Give the model that was fitted last, or read one from its folder."""
        label, model = self._fitted or ("", None)
        if model is not None and label == table.label and not isinstance(model, MeteredModel):
            return model
        folder, kinds = self.folder / "models" / table.label, [kind_class(table.kind)]
        model = load_model(folder, cache=self._cache, kinds=kinds)
        if isinstance(model, MeteredModel):
            # A model on disk does not hold the credentials of its server's address.
            model.reach(table.options.get("endpoint", {}))
        return model

    def _once(self, stage: str, run: Callable[[], str]) -> str:
        """Run a stage, or return the hash that it left when this object ran it."""
        if stage not in self._hashes:
            self._hashes[stage] = run()
        return self._hashes[stage]

    def _new_model(self, table: RewardTable) -> RewardModel:
        return kind_class(table.kind)(cache=self._cache, **table.options)

    def _record_usage(self, table: RewardTable, model: RewardModel) -> AbstractContextManager[None]:
        """Keep what a model that asks a server spends with the run, over all its folds."""
        return record_usage(self._shared, f"reward {table.label}", model, self._steps.tell, remember=False)


def settings_of(config: RunConfig, name: str) -> Settings:
    """Read how a run's file wants its diagnosis; ``name`` stands where the file gives none."""
    return Settings(
        n=config.diagnosis.n or None,
        averaging=config.diagnosis.averaging,
        level=config.diagnosis.level,
        rules=config.diagnosis.rules or (),
        price=config.diagnosis.price,
        noise=config.diagnosis.noise,
        name=config.name or name,
    )


def pool_sizes(data: Dataset) -> IntArray:
    """Count the candidates of each test pool; shape (test queries,).

    Raises:
        InputError: candidates are not in the data, they have to be sampled.
    """
    if data.coded is None:
        raise InputError(data.name, "no candidates in the data", "ratings, which bring their candidates")
    return data.coded.test_sizes


def _check_references(data: Dataset, names: tuple[str, ...]) -> None:
    classes = [(name, metric_class(name, "[utility] metrics")) for name in names]
    needy = [name for name, metric in classes if getattr(metric, "needs_reference", False)]
    without = data.queries.filter(data.queries["reference"].is_null())["query_id"]
    if needy and len(without):
        expected = f"the user's own text, which {needy[0]} needs ([utility] metrics: a judge needs none)"
        raise InputError(f"query '{without[0].as_py()}'", "no reference", expected)


def _check_n(config: RunConfig, data: Dataset) -> None:
    """Refuse an N that no pool can answer before anything is fitted, where candidates are in the data."""
    if data.coded is None:
        return
    most = int(data.coded.test_sizes.max(initial=0))
    largest = max(config.diagnosis.n, default=1)
    if largest > most:
        raise InputError("[diagnosis] n", f"N = {largest}", f"at most {most}, the candidates of the largest test pool")
