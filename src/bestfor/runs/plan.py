"""Say what a run will take before anything is paid: prompts, tokens, hours, money, disk and memory.

Counts come from the run's own prompts and the steps' own hashes (:mod:`bestfor.runs.foreseen`), so of a run that was
stopped only what it still owes is counted. Speeds are measured here (:mod:`bestfor.runs.probe`).
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bestfor.data import schema
from bestfor.encoders import load_encoder
from bestfor.endpoint import Address, Budget, EndpointTable
from bestfor.errors import BestforError, InputError
from bestfor.policies.base import Budgeted, Policy, Prompt, Resumable
from bestfor.policies.prompts import estimate
from bestfor.pool import CandidatePool
from bestfor.rewards import kind_class
from bestfor.runs.config import RunConfig
from bestfor.runs.foreseen import ForeseenFold, ForeseenSampling, foresee
from bestfor.runs.probe import EncodingSpeed, SamplingSpeed, probe_encoder, probe_policy
from bestfor.runs.stages import Stages
from bestfor.runs.usage import Metered

SECONDS = 30.0
"""Time of a probe, by default."""
_COUNTED = 2_000
"""Prompts whose tokens are counted one by one; of more, so many spread over all stand for them."""
_ROW_BYTES = 200
"""Memory of a candidate beside its text: codes, utilities and rewards of several models."""
_MESSAGE_TOKENS = 60
"""Tokens of a judge's instruction beside rubric, input, the user's own text and the candidate."""


@dataclass(frozen=True)
class SamplingPlan:
    """Sampling that is owed.

    Attributes:
        policy: who writes.
        prompts: of the run, fit and test.
        candidates: of the run.
        owed_prompts: whose candidates are not there.
        owed_candidates: those.
        prompt_tokens: of the owed prompts, each counted once: n candidates are asked for together.
        most_new_tokens: tokens of the owed candidates if all reach the limit.
        new_tokens: as the probe's candidates are; None without a probe.
        estimated: whether prompt tokens are estimated by bytes, or by some of the prompts.
        speed: what was measured, None where nothing was.
        hours: at that speed.
        cost: in the currency of the endpoint's prices, None where it has none; by ``new_tokens`` where they are known.
        most_cost: if all candidates reach the limit.
    """

    policy: str
    prompts: int
    candidates: int
    owed_prompts: int
    owed_candidates: int
    prompt_tokens: int
    most_new_tokens: int
    new_tokens: int | None
    estimated: bool
    speed: SamplingSpeed | None
    hours: float | None
    cost: float | None
    most_cost: float | None


@dataclass(frozen=True)
class EncodingPlan:
    """Encoding that is owed.

    Attributes:
        encoder: its name.
        models: reward models that use it.
        texts: distinct texts of the run, those that are not sampled yet taken as distinct.
        owed: those without an embedding in the run's folder.
        dim: length of an embedding.
        speed: what was measured, None where nothing is owed.
        hours: at that speed.
        bytes: of the owed embeddings, on disk and in memory.
    """

    encoder: str
    models: tuple[str, ...]
    texts: int
    owed: int
    dim: int
    speed: EncodingSpeed | None
    hours: float
    bytes: int


@dataclass(frozen=True)
class JudgingPlan:
    """Requests to judges that are owed.

    Attributes:
        judge: ``judge``, the metric, or a reward model by name.
        requests: at most, as equal texts of a query are judged once.
        prompt_tokens: about, at three bytes a token; None where profiles that are not written yet stand in prompts.
        most_new_tokens: if all answers reach the limit.
        cost: in the currency of the endpoint's prices, None where it has none or tokens are not known.
    """

    judge: str
    requests: int
    prompt_tokens: int | None
    most_new_tokens: int
    cost: float | None


@dataclass(frozen=True)
class FoldPlan:
    """Work of one fold of a run that is owed.

    Attributes:
        folder: the fold's.
        queries: test queries.
        steps: names of the steps that are owed, in order.
        sampling: None where the data bring the candidates.
        judging: metric and reward models that ask a server.
        profiles: summaries of users that stand in prompts; None where there are none.
    """

    folder: str
    queries: int
    steps: tuple[str, ...]
    sampling: SamplingPlan | None
    judging: tuple[JudgingPlan, ...]
    profiles: SamplingPlan | None = None


@dataclass(frozen=True)
class RunPlan:
    """Work, time, cost and size of a run before it is done.

    Attributes:
        folds: one a fold.
        encoding: of all folds together, which share embeddings.
        hours: of sampling and encoding, None where a speed was not measured; fits and judges are not in it.
        cost: of sampling and judges, None where no endpoint has prices.
        disk_bytes: of what is owed: candidates and embeddings.
        memory_bytes: at least: this process after its probes, embeddings, and candidates with their texts.
        notes: what is not in the figures.
    """

    folds: tuple[FoldPlan, ...]
    encoding: tuple[EncodingPlan, ...]
    hours: float | None
    cost: float | None
    disk_bytes: int
    memory_bytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def plan_run(
    config: RunConfig, out: str | Path, *, probe: float | None = None, tell: Callable[[str], None] = lambda line: None
) -> RunPlan:
    """Say what a run will take, from its data, its prompts and short probes. Nothing of the run is written.

    Args:
        config: the run.
        out: its folder; of what is there nothing is counted again.
        probe: seconds for the policy, and again for each encoder; 0 measures nothing. By default 30, but a server that
            is not on this machine is not asked, since that would cost.
        tell: called with one line of progress.

    Raises:
        InputError: bad data, what the policy or an encoder needs is not there, or a server that is probed does not
            answer.
    """
    folds = foresee(config, out, tell)
    seconds = SECONDS if probe is None else probe
    ask = probe is not None or _is_here(config)
    made = tuple(_fold(fold, config, seconds if ask else 0.0, tell) for fold in folds)
    encoding = tuple(_encoding(config, folds, Path(out), seconds, tell))
    parts = [one for fold in made for one in (fold.profiles, fold.sampling) if one is not None]
    speeds = [one.hours for one in parts if one.owed_candidates] + [one.hours for one in encoding]
    known = [hours for hours in speeds if hours is not None]
    costs = [one.cost for one in [*parts, *(judge for fold in made for judge in fold.judging)] if one.cost is not None]
    texts = sum(one.owed_candidates * _text_bytes(one) for one in parts)
    embeddings = sum(one.bytes for one in encoding)
    candidates = sum(one.candidates for one in parts) + sum(_rated(fold) for fold in folds[:1])
    held = int(candidates * _ROW_BYTES + sum(one.candidates * _text_bytes(one) for one in parts))
    whole = sum(one.texts * one.dim * 4 for one in encoding)
    return RunPlan(
        made,
        encoding,
        sum(known) if len(known) == len(speeds) else None,
        sum(costs) if costs else None,
        int(texts + embeddings),
        _peak() + whole + held,
        tuple(_notes(config, made)),
    )


def _fold(fold: ForeseenFold, config: RunConfig, seconds: float, tell: Callable[[str], None]) -> FoldPlan:
    sampling = None if fold.sampling is None else _sampling(fold.sampling, config, seconds, tell)
    described = None if fold.sampling is None else fold.sampling.profiles
    profiles = None if described is None else _sampling(described, config, seconds, tell)
    steps = tuple(one.name for one in fold.steps if one.owed)
    judging = tuple(_judging(fold, config, sampling, steps))
    return FoldPlan(str(fold.folder), len(fold.stages.data.queries), steps, sampling, judging, profiles)


def _sampling(found: ForeseenSampling, config: RunConfig, seconds: float, tell: Callable[[str], None]) -> SamplingPlan:
    owed = found.owed_chunks
    prompts = [prompt for chunk in owed for prompt in chunk.prompts]
    candidates = sum(chunk.size for chunk in owed)
    tokens, estimated = _count(found.policy, prompts)
    if found.profiles is not None and found.profiles.owed:
        # Summaries that are not written yet are counted as long as they may be.
        tokens, estimated = tokens + len(prompts) * _longest(found.profiles, config), True
    most = candidates * _longest(found, config)
    speed = None
    if seconds > 0 and prompts:
        tell(f"probe: '{found.policy.name}' writes for at most about {seconds:g} s; that is not kept")
        speed = _probed(found.policy, prompts, max(chunk.n for chunk in owed), seconds, config.seed)
    mean = speed.tokens_per_candidate if speed is not None else 0.0
    new = round(candidates * mean) if mean else None
    budget = _budget((config.policy.base or config.policy).endpoint, "[policy.endpoint]")
    return SamplingPlan(
        policy=found.policy.name,
        prompts=sum(len(chunk.prompts) for chunk in found.chunks),
        candidates=sum(chunk.size for chunk in found.chunks),
        owed_prompts=len(prompts),
        owed_candidates=candidates,
        prompt_tokens=tokens,
        most_new_tokens=most,
        new_tokens=new,
        estimated=estimated,
        speed=speed,
        hours=0.0 if not candidates else None if speed is None else candidates / speed.candidates_per_second / 3600,
        cost=None if budget is None else budget.cost(tokens, most if new is None else new),
        most_cost=None if budget is None else budget.cost(tokens, most),
    )


def _probed(policy: Policy, prompts: Sequence[Prompt], n: int, seconds: float, seed: int) -> SamplingSpeed:
    try:
        return probe_policy(policy, prompts, n, seconds, seed=seed)
    except InputError:
        raise
    except BestforError as error:
        expected = "a server that answers, or --probe 0, which asks none"
        raise InputError("--probe", f"no answer ({error})", expected) from error
    finally:
        if isinstance(policy, Metered):
            policy.close()


def _longest(found: ForeseenSampling, config: RunConfig) -> int:
    """Give the most tokens of a text."""
    return getattr(found.policy, "max_new_tokens", (config.policy.base or config.policy).max_new_tokens)


def _count(policy: Policy, prompts: Sequence[Prompt]) -> tuple[int, bool]:
    """Count the tokens of prompts, and say whether that is an estimate."""
    # What asks a server estimates: the model's own count is the server's.
    own = isinstance(policy, Budgeted) and not isinstance(policy, Resumable)
    count = policy.count if isinstance(policy, Budgeted) else estimate
    step = max(-(-len(prompts) // _COUNTED), 1)
    some = prompts[::step]
    total = sum(count(list(prompt.messages)) for prompt in some)
    return round(total * len(prompts) / max(len(some), 1)), step > 1 or not own


def _judging(
    fold: ForeseenFold, config: RunConfig, sampling: SamplingPlan | None, steps: Iterable[str]
) -> Iterable[JudgingPlan]:
    judge, steps = config.utility.judge, set(steps)
    if judge is not None and sampling is not None and "measure" in steps:
        rows = fold.sampling.prompted.queries.to_pylist() if fold.sampling is not None else []
        each = sampling.candidates / max(len(rows), 1)
        text = sum(_bytes(row["input"]) + _bytes(row["reference"]) + _bytes(judge.rubric) for row in rows) * each
        tokens = round((text + sampling.candidates * _text_bytes(sampling)) / 3 + sampling.candidates * _MESSAGE_TOKENS)
        most, budget = sampling.candidates * judge.max_tokens, _budget(judge.endpoint, "[utility.judge.endpoint]")
        cost = None if budget is None else budget.cost(tokens, most)
        yield JudgingPlan("judge", sampling.candidates, tokens, most, cost)
    for table in config.reward:
        options = kind_class(table.kind)(**table.options).config
        if not isinstance(getattr(options, "endpoint", None), EndpointTable) or f"predict {table.label}" not in steps:
            continue
        tested = sampling.candidates if sampling is not None else _rated(fold)
        yield JudgingPlan(f"reward {table.label}", tested, None, tested * getattr(options, "max_tokens", 16), None)


def _encoding(
    config: RunConfig, folds: Sequence[ForeseenFold], out: Path, seconds: float, tell: Callable[[str], None]
) -> Iterable[EncodingPlan]:
    wanted: dict[str, list[str]] = {}
    steps = {one.name for fold in folds for one in fold.steps if one.owed}
    for table in config.reward:
        options = kind_class(table.kind)(**table.options).config
        name = getattr(options, "encoder", None)
        if name and getattr(options, "components", 1) != 0 and f"predict {table.label}" in steps:
            wanted.setdefault(name, []).append(table.label)
    if not wanted:
        return
    texts = list(dict.fromkeys(text for fold in folds for text in _texts(fold.stages)))
    unsampled = sum(chunk.size for fold in folds if fold.sampling for chunk in fold.sampling.owed_chunks)
    for name, models in wanted.items():
        encoder = load_encoder(name, cache=out / "embeddings" if (out / "embeddings").is_dir() else None)
        missing = encoder.missing(texts)
        owed, speed = len(missing) + unsampled, None
        if owed and seconds > 0 and texts:
            tell(f"probe: encoder '{name}' reads for at most about {seconds:g} s")
            speed = probe_encoder(encoder.encoder, missing or texts, seconds)
        hours = owed / speed.texts_per_second / 3600 if speed is not None else 0.0
        size = owed * (encoder.dim * 4 + 32)
        yield EncodingPlan(name, tuple(models), len(texts) + unsampled, owed, encoder.dim, speed, hours, size)


def _texts(stages: Stages) -> Iterable[str]:
    """List what reward models read: candidates that are there, inputs, and what users wrote."""
    data = stages.data
    if data.coded is not None:
        yield from data.coded.whole.texts
        return
    yield from (text for text in data.histories["output"].to_pylist() if text)
    yield from (text for text in data.histories["input"].to_pylist() if text)
    yield from data.queries["input"].to_pylist()
    pool = CandidatePool(stages.folder / "pool")
    for key in pool.planned if pool.folder.is_dir() else ():
        table = pool.read(key)
        yield from (schema.CANDIDATES.empty_table() if table is None else table)["text"].to_pylist()


def _rated(fold: ForeseenFold) -> int:
    """Count the candidates that data bring."""
    coded = fold.stages.data.coded
    return 0 if coded is None else len(coded.whole)


def _text_bytes(sampling: SamplingPlan) -> float:
    """Mean length of a candidate: the probe's, else four bytes for each token up to the limit."""
    if sampling.speed is not None:
        return sampling.speed.bytes_per_candidate
    return 4.0 * sampling.most_new_tokens / max(sampling.owed_candidates, 1)


def _budget(table: EndpointTable | None, where: str) -> Budget | None:
    if table is None:
        return None
    budget = table.config(where).budget
    return budget if budget.priced else None


def _is_here(config: RunConfig) -> bool:
    """Tell whether the policy writes on this machine, all its servers included."""
    table = (config.policy.base or config.policy).endpoint
    return table is None or all(Address.parse(url).here for url in (table.base_url, *(table.also or ())))


def _notes(config: RunConfig, folds: Sequence[FoldPlan]) -> Iterable[str]:
    if any(one.sampling and one.sampling.owed_candidates and one.sampling.speed is None for one in folds):
        yield "how fast the policy writes was not measured (--probe SECONDS asks it)"
    parts = [one for fold in folds for one in (fold.profiles, fold.sampling) if one is not None]
    asked = sum(one.speed.candidates for one in parts if one.speed)
    if asked and config.policy.endpoint is not None:
        yield f"the probe asked the server for {asked} candidates, which are not kept and not in the cost"
    if config.policy.feedback is not None:
        yield "critiques and revisions of the policy 'feedback' are not counted: each step asks for about twice as much"
    if config.policy.adapters is not None:
        yield "training adapters is not in the hours"
        if config.policy.adapters.rewarded is not None:
            yield "candidates on which adapters for metrics are trained and chosen are not counted"
    if any(judge.requests for fold in folds for judge in fold.judging):
        yield "the time of judges is not in the hours"
    if config.backend.kind != "local" or (config.backend.workers or 1) > 1:
        yield "the hours are of one process of this machine, whatever [backend] shares out"
    yield "fits, predictions and the diagnosis are not in the hours: seconds to minutes on a CPU"


def _bytes(text: str | None) -> int:
    return len((text or "").encode("utf-8", "replace"))


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
