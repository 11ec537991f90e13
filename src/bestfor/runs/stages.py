"""Do the stages of a run's file one by one: data, candidates, utilities, reward models, rewards, diagnosis.

Each is a method that skips what is there and matches, and returns the hash of what it leaves. ``bestfor run`` does them
all; the verbs ``generate``, ``measure``, ``fit`` and ``predict`` do them one at a time. What a stage does is in
:mod:`bestfor.runs.workspace`; what the run's file says of it is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from bestfor.data.parts import CandidateParts
from bestfor.data.split import Dataset, Ratings
from bestfor.diagnostics import Diagnosis, Settings
from bestfor.errors import InputError
from bestfor.files import sweep
from bestfor.metrics import metric_class
from bestfor.policies import make_policy
from bestfor.rewards import RewardModel, kind_class, load_model
from bestfor.runs.adapters import attach_adapters
from bestfor.runs.build import metric_names, metrics_of, primary_metric, prompting_of, sampling_of
from bestfor.runs.config import RewardTable, RunConfig
from bestfor.runs.feedback import sample_with_feedback, take_fitted
from bestfor.runs.folder import write_run
from bestfor.runs.joins import Predicted, forget_unanswered_rewards, predict_test, read_rewards, write_rewards
from bestfor.runs.shots import unit_of, users_of_fold, with_shots
from bestfor.runs.sources import load_dataset, read_ratings, with_split
from bestfor.runs.steps import OWED, ForeseenStep, Steps, digest
from bestfor.runs.usage import MeteredModel, record_usage
from bestfor.runs.workspace import Tell, Workspace
from bestfor.types import IntArray
from bestfor.version import __version__


def folds(
    config: RunConfig, out: str | Path, tell: Tell, ratings: Ratings | None = None, *, foresee: bool = False
) -> Iterator[Stages]:
    """Open the stages of each fold of a run; one where there is one fold. A source of ratings is read once.

    Args:
        config: the run.
        out: its folder.
        tell: called with one line a step.
        ratings: the run's, where they are read already.
        foresee: do and write nothing, see :mod:`bestfor.runs.foreseen`.

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
        yield Stages(config, folder, folder, tell, ratings, foresee=foresee)
        return
    if ratings is None:
        raise InputError("[split] fold", "'all'", "0 for histories: their test queries are given, not split")
    for fold in (0, 1, 2):
        tell(f"fold {fold}")
        # Nothing here holds on to a fold that is done: memory holds one.
        yield _open_fold(config, fold, folder, tell, ratings, foresee)


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
    ) -> None:
        self.config, self.folder = config, folder
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
            return sample_with_feedback(config, data, self._steps)
        prompting = prompting_of(config, data, self.folder)
        policy = attach_adapters(make_policy(config.policy), config, data, prompting, self._steps)
        return self.workspace.sample(policy, sampling_of(config, prompting))

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
            return self.workspace.measure(start, metrics, self.config.utility.workers)

        return self._once("measured", work)

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

        inputs = {"measured": self.measure(), "kind": table.kind, "options": table.options, "seed": self.config.seed}
        inputs["version"] = __version__
        name = f"fit {table.label}"
        return self._once(name, lambda: self._steps.run(name, inputs, [f"models/{table.label}"], work))

    def predict(self, table: RewardTable) -> str:
        """Predict the rewards of the test candidates without their utilities; returns the hash of their table."""

        def work() -> None:
            model = self._fitted_model(table)
            with self._record_usage(table, model):
                self.workspace.predict(self.parts(), table.label, model)

        inputs = {"model": self.fit(table), "measured": self.measure()}
        name = f"predict {table.label}"

        def once() -> str:
            if not self._steps.foresee:
                forget_unanswered_rewards(self.folder / "rewards" / f"{table.label}.parquet")
            return self._steps.run(name, inputs, [f"rewards/{table.label}.parquet"], work)

        found = self._once(name, once)
        self._fitted = None
        return found

    def diagnose(self) -> Diagnosis:
        """Diagnose the run's reward models, which are fitted and asked where they are not yet."""
        config = self.config
        rewards = {table.label: self.predict(table) for table in config.reward}
        signature = {
            "policy": "human" if config.door == "ratings" else config.policy.model_dump(),
            "metric": primary_metric(config, self.data),
            "reward": digest({name: rewards[name] for name in sorted(rewards)}),
            "rule": "argmax",
            "split": config.split.model_dump(),
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
