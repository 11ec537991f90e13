"""Read the TOML file that describes a run: its tables, their defaults, and errors that name the nearest known key.

A class is a table of the file, a field a key. What requests to a server may cost stands in its table
``endpoint``; what a kind of reward model takes beside ``kind`` and ``name`` is checked by the kind's own ``Config``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from bestfor import moved
from bestfor.backends import make_backend
from bestfor.data.sources.signals import Signal
from bestfor.endpoint.tables import EndpointTable, hidden
from bestfor.errors import InputError, nearest
from bestfor.labels.table import LabelOptions
from bestfor.policies import POLICIES, WRITER_KEYS, policy_class
from bestfor.policies.openai.table import PolicyEndpoint
from bestfor.rewards import kind_class
from bestfor.rewards.check import check_class
from bestfor.runs.backend import BackendTable
from bestfor.runs.changes import changed
from bestfor.runs.sections import AdaptersTable, BriefSection, ProfileTable, Section
from bestfor.validation import WrongKey, validated

__getattr__ = moved.renamed(
    __name__,
    {
        "Diagnosis": "DiagnosisTable",
        "HistoriesData": "HistoriesTable",
        "LampData": "LampTable",
        "LonglampData": "LonglampTable",
        "PolisData": "PolisTable",
        "Policy": "PolicyTable",
        "Reward": "RewardTable",
        "Split": "SplitTable",
        "TableData": "RatingsTable",
        "Utility": "UtilityTable",
        "WorldData": "WorldTable",
    },
)


class JudgeTable(Section):
    """The judge behind the metric ``judge``; keys as in :class:`bestfor.metrics.judge.JudgeConfig`."""

    model: str = Field(min_length=1)
    rubric: str = ""
    low: int = 1
    high: int = 5
    logprobs: bool = True
    max_tokens: int = Field(default=16, ge=1)
    identity: str = ""
    endpoint: EndpointTable = EndpointTable()


class RewardTable(Section):
    """A reward model; keys beyond ``kind`` and ``name`` belong to the kind."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    kind: str
    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")

    @property
    def label(self) -> str:
        """The model's name in tables and folders: its own, or its kind, of a dotted one the class."""
        return self.name or self.kind.rpartition(":")[2]

    @property
    def options(self) -> dict[str, Any]:
        """Options that the kind's own configuration takes."""
        return dict(self.model_extra or {})

    @model_serializer(mode="wrap")
    def _without_secrets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return hidden(handler(self))


class PolisTable(BriefSection):
    """A folder in the Polis export format.

    Attributes:
        moderation: which statements count: those that were ``shown``, or those that a moderator ``accepted``.
    """

    source: Literal["polis"]
    path: str
    moderation: Literal["shown", "accepted"] = "shown"


class SignalTable(Section):
    """Weight of a column in a rating; keys as in :class:`bestfor.data.sources.signals.Signal`."""

    weight: float = 1.0
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _counts(self) -> SignalTable:
        if self.weight == 0 or self.low >= self.high:
            raise ValueError("a weight other than 0, and low below high")
        return self


class RatingsTable(BriefSection):
    """A table of user, text, rating (and query, text_id, timestamp), with other column names where they differ.

    Attributes:
        duplicates: what stands for several ratings of one text by a user for a query.
        signals: columns that make the rating together; a number is a column's weight.
    """

    source: Literal["table"]
    path: str
    columns: dict[str, str] = Field(default_factory=dict)
    duplicates: Literal["error", "last", "mean"] = "error"
    signals: dict[str, SignalTable] = Field(default_factory=dict)

    @field_validator("signals", mode="before")
    @classmethod
    def _weights(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        numbers = (int, float)
        return {
            name: {"weight": one} if isinstance(one, numbers) and not isinstance(one, bool) else one
            for name, one in given.items()
        }

    def combination(self) -> dict[str, Signal]:
        """Give the signals as the reader of tables takes them."""
        return {name: Signal(one.weight, one.low, one.high) for name, one in self.signals.items()}


class PairsTable(Section):
    """A table of user, query, chosen, rejected (and tie), with other column names where they differ."""

    source: Literal["pairs"]
    path: str
    columns: dict[str, str] = Field(default_factory=dict)


class SaidTable(Section):
    """A table of labels of any kind, or an exported journal; keys as in :class:`bestfor.labels.table.LabelOptions`."""

    source: Literal["labels"]
    path: str
    columns: dict[str, str] = Field(default_factory=dict)
    rating: tuple[float, float] | None = None
    worst: float | None = None
    best: float | None = None
    thumbs: tuple[float, float] | None = None
    metric: str = "rougeL"
    metric_unit: float | None = None
    weights: dict[str, float] = Field(default_factory=dict)

    def options(self) -> LabelOptions:
        """Give the scales as the reader of labels takes them."""
        names = ("rating", "worst", "best", "thumbs", "metric", "metric_unit", "weights")
        return LabelOptions(**{name: getattr(self, name) for name in names})


class PrismTable(Section):
    """PRISM's conversations or utterances: a file, or a folder that holds one.

    Attributes:
        turns: all rated turns, or only the first of each conversation, which four models answered.
    """

    source: Literal["prism"]
    path: str
    turns: Literal["all", "first"] = "all"


class WorldTable(Section):
    """The embedded world: users with known taste."""

    source: Literal["world"]
    users: int = Field(default=60, ge=1)
    task: Literal["headline", "review", "mixed"] = "headline"
    noise: Literal["differing", "equal", "outliers"] = "differing"
    queries: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)


class LampTable(Section):
    """LaMP's files (or OPPU's): questions with their users' profiles, and outputs; files of labelled questions."""

    source: Literal["lamp"]
    questions: str
    outputs: str = ""
    task: str = ""
    users: int | None = Field(default=None, ge=1)
    fit_questions: str = ""
    fit_outputs: str = ""


class LonglampTable(Section):
    """LongLaMP: a file, a folder of files, or the data set's name on the hub."""

    source: Literal["longlamp"]
    path: str
    task: str = ""
    part: str = "test"
    users: int | None = Field(default=None, ge=1)


class HistoriesTable(Section):
    """Tables of one's own: what users wrote, and what is asked now, with other column names where they differ."""

    source: Literal["histories"]
    histories: str
    queries: str
    columns: dict[str, str] = Field(default_factory=dict)
    users: int | None = Field(default=None, ge=1)


Data = Annotated[
    PolisTable
    | RatingsTable
    | SaidTable
    | PairsTable
    | PrismTable
    | WorldTable
    | LampTable
    | LonglampTable
    | HistoriesTable,
    Field(discriminator="source"),
]
DATA: dict[str, type[Section]] = {
    "polis": PolisTable,
    "table": RatingsTable,
    "labels": SaidTable,
    "pairs": PairsTable,
    "prism": PrismTable,
    "world": WorldTable,
    "lamp": LampTable,
    "longlamp": LonglampTable,
    "histories": HistoriesTable,
}
"""Sources of data by name."""


class SplitTable(Section):
    """Texts, prompts and users that are unseen at fitting.

    Attributes:
        by: what is unseen; where nothing is said, prompts if answers belong to one prompt each, else texts. By rating
            texts are unseen at fitting, but predictions may look at other people's ratings of them.
        others: by rating: how many of these at most; 10 where nothing is said.
    """

    by: Literal["text", "query", "time", "user", "rating"] = "text"
    fold: Literal[0, 1, 2, "all"] = 0
    min_fit: int = Field(default=20, ge=0)
    min_test: int = Field(default=16, ge=1)
    others: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _told(self) -> Self:
        """Others' ratings are told by a split by rating alone."""
        if self.others is not None and self.by != "rating":
            raise ValueError(f'others = {self.others} goes with by = "rating", not with by = "{self.by}"')
        return self


class FeedbackTable(Section):
    """Verdicts of a reward model that candidates are revised after.

    Keys as in :class:`bestfor.policies.feedback.FeedbackPolicy`.

    Attributes:
        reward: the name of one of the run's reward models, which is fitted on candidates without feedback.
    """

    reward: str
    width: int = Field(default=5, ge=1)
    contrast: bool = True
    critique_tokens: int = Field(default=256, ge=1)


class PolicyTable(Section):
    """Policy that writes candidates (histories only).

    Keys as in the policies' own classes, in :class:`bestfor.runs.sampling.SamplingSettings` and
    :class:`bestfor.runs.prompts.Prompting`.

    Attributes:
        retriever: how the user's earlier items of a prompt are chosen.
        items_from: whose items these are: the user's ``"own"``, or, as a control, those of ``"others"``.
        prompt: our own prompt, or the published one of a benchmark's task.
        prompt_tokens: the most tokens of a prompt; by default the policy's own limit counts.
        too_long: what becomes of a query longer than that by itself: ``"error"``, ``"drop"`` or ``"truncate"``, which
            the benchmarks do and is therefore the default of published prompts; of our own it is ``"error"``.
        refused: what becomes of a query that a server refuses whenever it is asked: ``"skip"`` or ``"error"``.
        options: what a class from outside takes, ``kind = "package.module:Class"``.
        base: who writes, with ``kind = "feedback"``: kind, model and the like.
    """

    kind: str = "transformers"
    model: str = "embedded"
    n: int = Field(default=30, ge=1)
    fit_n: int = Field(default=5, ge=1)
    fit_items: int = Field(default=8, ge=1)
    fit_share: float = Field(default=1.0, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=32, ge=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    retriever: Literal["bm25", "dense", "recency", "random", "none"] = "recency"
    items_from: Literal["own", "others"] = "own"
    encoder: str = "all-MiniLM-L6-v2"
    items: int = Field(default=4, ge=0)
    prompt: Literal["own", "published"] = "own"
    instruction: str | None = None
    prompt_tokens: int | None = Field(default=None, ge=1)
    too_long: Literal["error", "drop", "truncate"] | None = None
    refused: Literal["skip", "error"] = "skip"
    chunk: int = Field(default=16, ge=1)
    dtype: str = "auto"
    device: str = "auto"
    endpoint: PolicyEndpoint | None = None
    adapters: AdaptersTable | None = None
    profile: ProfileTable | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    base: PolicyTable | None = None
    feedback: FeedbackTable | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out tables that are not there, and keys that another table says."""
        written = handler(self)
        written["options"] = hidden(self.options)
        for name in ("options", "base", "feedback", "profile"):
            if not written.get(name):
                written.pop(name, None)
        for name in ("too_long", "refused", "items_from"):
            # Runs of before these keys keep their bytes.
            if name not in self.model_fields_set:
                written.pop(name, None)
        if self.base is not None:
            kept = {*WRITER_KEYS, "kind", "endpoint", "options"}
            written["base"] = {name: value for name, value in written["base"].items() if name in kept}
            written = {name: value for name, value in written.items() if name not in WRITER_KEYS}
        return written


class UtilityTable(Section):
    """Metrics measured on every candidate; the primary one is what reward models learn and curves show."""

    metrics: tuple[str, ...] = ()
    primary: str = ""
    encoder: str = "all-MiniLM-L6-v2"
    workers: int = Field(default=1, ge=1)
    judge: JudgeTable | None = None

    @model_validator(mode="after")
    def _primary_is_measured(self) -> UtilityTable:
        if self.primary and self.primary not in self.metrics:
            raise ValueError(f"primary '{self.primary}' among metrics {list(self.metrics)}")
        return self


class DiagnosisTable(BriefSection):
    """Settings of a diagnosis: where curves are drawn, of which other rules, at which price, how noisy ratings are.

    Attributes:
        shots: prompts (or labels) of a fold's users with which models are fitted again and judged on held-out answers.
    """

    n: tuple[Annotated[int, Field(ge=1)], ...] = ()
    rules: tuple[str, ...] | None = None
    averaging: Literal["user", "query"] = "user"
    level: float = Field(default=0.95, gt=0, lt=1)
    price: str | float | None = None
    noise: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    shots: tuple[Annotated[int, Field(ge=0)], ...] = ()

    @field_validator("shots")
    @classmethod
    def _increasing(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(given)))


class RunConfig(Section):
    """Run as its file describes it."""

    name: str = ""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    data: Data
    split: SplitTable = SplitTable()
    policy: PolicyTable = PolicyTable()
    utility: UtilityTable = UtilityTable()
    reward: tuple[RewardTable, ...] = Field(min_length=1)
    diagnosis: DiagnosisTable = DiagnosisTable()
    backend: BackendTable = Field(default=BackendTable(), exclude=True)

    @property
    def door(self) -> Literal["ratings", "histories"]:
        """Kind of data: candidates are in it (ratings) or have to be sampled (histories)."""
        return "ratings" if self.data.source in ("polis", "table", "labels", "pairs", "prism") else "histories"


def load_config(path: str | Path, changes: Sequence[str] = ()) -> RunConfig:
    """Read and check a run's TOML file.

    Args:
        path: the file.
        changes: keys that are set to something else, each as :func:`bestfor.runs.changes.changed` reads it.

    Raises:
        InputError: no such file, not TOML, an unknown key (names the nearest), a value of the wrong kind, a change that
            fits nowhere, or a table that the data source has no use for.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no file", "a TOML file that describes a run")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"what is not TOML ({error})", "a TOML file that describes a run") from error
    return parse_config(changed(raw, changes), str(path))


def parse_config(raw: Mapping[str, Any], where: str) -> RunConfig:
    """Check a run given as a mapping; ``where`` names it in errors."""
    config = validated(RunConfig, raw, lambda wrong: _worded(wrong, where))
    unused = {"ratings": ("policy", "utility"), "histories": ()}[config.door]
    for table in unused:
        if table in raw:
            found = f"a table [{table}]"
            raise InputError(where, found, f"none: data source '{config.data.source}' brings its own candidates")
    if config.door == "histories":
        _check_policy(config.policy, where)
    make_backend(config.backend.kind, f"{where}, [backend]", **config.backend.given())
    _check_judge(config, where)
    _check_rules(config, where)
    largest = max(config.diagnosis.n, default=1)
    if config.door == "histories" and largest > config.policy.n:
        found, expected = f"N = {largest}", f"at most {config.policy.n}, the candidates of a test query ([policy] n)"
        raise InputError(f"{where}, [diagnosis] n", found, expected)
    labels = [reward.label for reward in config.reward]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{where}, [[reward]]", f"two models named '{label}'", "a different 'name' for each")
    for i, reward in enumerate(config.reward):
        _check_reward(reward, f"{where}, [[reward]] {i + 1}")
    _check_feedback(config, where)
    return config


def _check_policy(policy: PolicyTable, where: str, name: str = "policy") -> None:
    """Check that the tables within ``[policy]`` are those that its kind takes."""
    takes = getattr(policy_class(policy.kind, f"{where}, [{name}]"), "tables", ())
    for table in ("endpoint", "adapters", "base", "feedback", "profile"):
        given = getattr(policy, table) is not None
        if given and table not in takes:
            kinds = [f"'{kind}'" for kind in POLICIES if table in getattr(POLICIES[kind], "tables", ())]
            found = f"{'a server of ' if table == 'endpoint' else ''}a policy of kind '{policy.kind}'"
            raise InputError(f"{where}, [{name}.{table}]", found, f"kind {' or '.join(kinds)}")
        if table in takes and not given and table in ("base", "feedback"):
            raise InputError(f"{where}, [{name}]", f"no table [{name}.{table}]", f"it, for kind '{policy.kind}'")
    if policy.endpoint is not None:
        policy.endpoint.config(f"{where}, [{name}.endpoint]")
    if policy.adapters is not None and policy.fit_share == 1.0:
        found = "1.0, which leaves adapters no items to train on"
        raise InputError(f"{where}, [policy] fit_share", found, "less, such as 0.5: items that train do not label")
    if policy.adapters is not None and policy.profile is not None:
        found = "a profile beside adapters, whose examples would be described by themselves"
        raise InputError(f"{where}, [{name}.profile]", found, "one of [policy.profile] and [policy.adapters]")


def _check_feedback(config: RunConfig, where: str) -> None:
    """Check that verdicts come from a reward model of the run, and that every key stands in its table."""
    policy, feedback = config.policy, config.policy.feedback
    if policy.base is None or feedback is None:
        return
    _check_policy(policy.base, where, "policy.base")
    if policy.profile is not None and "profile" not in getattr(policy_class(policy.base.kind), "tables", ()):
        raise InputError(f"{where}, [policy.profile]", f"a policy of kind '{policy.base.kind}'", "one that takes it")
    writer = {*WRITER_KEYS, "kind", "endpoint", "options"}
    for key in sorted(policy.model_fields_set & set(WRITER_KEYS)):
        raise InputError(f"{where}, [policy]", f"key '{key}'", "it in [policy.base], which says who writes")
    for key in sorted(policy.base.model_fields_set - writer):
        raise InputError(f"{where}, [policy.base]", f"key '{key}'", "it in [policy], or not at all")
    named = {reward.label: reward for reward in config.reward}
    if feedback.reward not in named:
        raise InputError(f"{where}, [policy.feedback] reward", f"'{feedback.reward}'", nearest(feedback.reward, named))
    guide = named[feedback.reward]
    if not kind_class(guide.kind)(**guide.options).alone:
        found = f"'{guide.label}', which compares candidates with each other"
        raise InputError(f"{where}, [policy.feedback] reward", found, "a model that judges each by itself")


def _check_rules(config: RunConfig, where: str) -> None:
    from bestfor.diagnostics import Settings

    try:
        Settings(rules=config.diagnosis.rules or ())
    except InputError as error:
        raise InputError(f"{where}, [diagnosis] rules, {error.where}", error.found, error.expected) from None
    try:
        Settings(price=config.diagnosis.price)
    except InputError as error:
        raise InputError(f"{where}, [diagnosis] price", error.found, error.expected) from None


def _check_judge(config: RunConfig, where: str) -> None:
    judge = config.utility.judge
    if (judge is not None) != ("judge" in config.utility.metrics):
        found = "the metric 'judge' alone" if judge is None else "a judge that is not among metrics"
        raise InputError(f"{where}, [utility]", found, "the metric 'judge' and its table [utility.judge], or neither")
    if judge is not None:
        judge.endpoint.config(f"{where}, [utility.judge.endpoint]")


def _check_reward(reward: RewardTable, where: str) -> None:
    kind = kind_class(reward.kind, where)
    check_class(kind)

    def worded(wrong: WrongKey) -> InputError:
        return InputError(f"{where}, {wrong.place}" if wrong.place else where, wrong.found, wrong.expected)

    options = validated(kind.Config, reward.options, worded)
    endpoint = getattr(options, "endpoint", None)
    if isinstance(endpoint, EndpointTable):
        endpoint.config(f"{where}, endpoint")


def _worded(wrong: WrongKey, where: str) -> InputError:
    """Name the table in brackets, as it stands in the file, and the key after it."""
    section = ".".join(part for part in wrong.tables if isinstance(part, str))
    place = f"{where}, [{section}]" if section else where
    return InputError(f"{place} {wrong.key}" if wrong.key else place, wrong.found, wrong.expected)
