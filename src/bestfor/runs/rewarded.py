"""Tune an adapter for each of several metrics and mix them as a step of a run (rewarded soups, Rame et al. 2023).

    early items --policy--> candidates --each metric--> the best of each item --training--> an adapter for each metric
    held-out early items --each weighting of the adapters--> candidates --primary metric--> the weights that are kept

Training is rejection sampling: the policy's own candidates, those that a metric likes best against the user's own text,
are what it learns to write (as in RAFT, Dong et al. 2023). No item that labels a reward model is read. What is sampled
lies in a pool of its own, and adapters are files of their own, so that a call that was killed goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bestfor import rng
from bestfor.data.schema import CANDIDATES
from bestfor.data.states import with_text
from bestfor.errors import InputError
from bestfor.files import write_json
from bestfor.metrics import Metric
from bestfor.policies.base import Prompt
from bestfor.pool import CandidatePool
from bestfor.runs.build import metric_names, metrics_of
from bestfor.runs.measuring import measure
from bestfor.runs.prompts import PromptedQueries, Prompting, early_prompts
from bestfor.runs.sampling import SamplingSettings, plan, sample_owed
from bestfor.runs.steps import Steps, digest
from bestfor.runs.usage import record_usage
from bestfor.types import BoolArray

if TYPE_CHECKING:
    from bestfor.data.split import Dataset
    from bestfor.policies.adapters import Example, LoraSettings
    from bestfor.policies.transformers import TransformersPolicy
    from bestfor.runs.config import RunConfig
    from bestfor.runs.sections import RewardedTable

FOLDER, ADAPTERS, SOUP, CHOICE = "rewarded", "rewarded/adapters", "rewarded/soup", "rewarded/choice.json"


def attach_rewarded(
    policy: TransformersPolicy,
    config: RunConfig,
    data: Dataset,
    prompting: Prompting,
    steps: Steps,
    settings: LoraSettings,
) -> TransformersPolicy:
    """Give a policy the mixed adapters that a run asks for, trained here unless they are there already.

    Raises:
        InputError: a metric that the run does not measure, too few early items, or candidates that metrics cannot tell
            apart.
    """
    table = config.policy.adapters.rewarded if config.policy.adapters is not None else None
    assert table is not None
    known = metric_names(config, data)
    for name in table.metrics:
        if name not in known:
            expected = f"among the metrics of [utility], {list(known)}"
            raise InputError("[policy.adapters.rewarded] metrics", f"'{name}'", expected)
    metrics = dict(zip(known, metrics_of(config, known, steps.folder), strict=True))
    early = early_prompts(policy, data.histories, data.queries, config.policy.fit_share, prompting)
    users = sorted({*data.histories["user_id"].to_pylist(), *data.queries["user_id"].to_pylist()})
    primary = config.utility.primary or known[0]
    soup = RewardedSoup(policy, table, early, metrics, settings, steps, tuple(users), primary)
    inputs = {"base": policy.signature, "settings": repr(settings), "rewarded": table.model_dump()}
    inputs |= {"items": digest([[list(one.messages) for one in early.prompts], early.queries.to_pylist()])}
    inputs |= {"metrics": [one.signature for one in metrics.values()], "users": digest(users)}
    steps.run(FOLDER, inputs, [ADAPTERS, SOUP, CHOICE], soup.make)
    return replace(policy, adapters=steps.folder / SOUP)


@dataclass(frozen=True)
class RewardedSoup:
    """Training of adapters for metrics, and the choice of their weights.

    Attributes:
        policy: writes, without adapters.
        table: what is asked for.
        early: the items that no reward model is fitted on, as queries.
        metrics: of the run, by name.
        settings: how adapters are trained.
        steps: of the run.
        users: of the run, each of whom gets the mixed adapter.
        primary: the metric that chooses.
    """

    policy: TransformersPolicy
    table: RewardedTable
    early: PromptedQueries
    metrics: Mapping[str, Metric]
    settings: LoraSettings
    steps: Steps
    users: tuple[str, ...]
    primary: str

    def make(self) -> None:
        """Train the adapters, choose weights where none are given, and write the mixed adapter of each user."""
        held = self._held_out()
        record: dict[str, Any] = {"metrics": list(self.table.metrics), "examples": self._train(~held)}
        weights: tuple[float, ...] = self.table.weights
        if not weights:
            tried = [self._try(one, held) for one in self._weightings()]
            best = int(np.argmax([one["utility"][self.primary] for one in tried]))
            weights = tuple(tried[best]["weights"])
            record |= {"held_out_items": int(held.sum()), "primary": self.primary, "tried": tried}
        record["weights"] = list(weights)
        self._mix(weights, self.steps.folder / SOUP)
        write_json(self.steps.folder / CHOICE, record, sync=False)
        told = ", ".join(f"{weight:g} {name}" for weight, name in zip(weights, self.table.metrics, strict=True))
        self.steps.tell(f"{FOLDER}: adapters are mixed as {told}")

    def _held_out(self) -> BoolArray:
        """Choose the items that choose the weights, a share of every user's; shape (items,)."""
        owners = np.array(self.early.queries["user_id"].to_pylist())
        held = np.zeros(len(owners), dtype=np.bool_)
        if self.table.weights:
            return held
        for user in np.unique(owners).tolist():
            rows = np.flatnonzero(owners == user)
            count = min(max(round(self.table.held_out * len(rows)), 1), len(rows) - 1)
            held[rng.derive(self.settings.seed, "rewarded", user).permutation(rows)[:count]] = True
        if not held.any():
            expected = "users with two early items or more (fit_share in [policy]), or weights"
            raise InputError("[policy.adapters.rewarded]", "no items to choose weights on", expected)
        return held

    def _train(self, chosen: BoolArray) -> dict[str, int]:
        """Train an adapter for each metric on the best candidates of some items; returns how many it learned from."""
        from bestfor.policies.adapters import train_adapters

        asked = _take(self.early, chosen)
        candidates = self._sampled(self.policy, asked, self.table.n)
        prompts = {one.query_id: one for one in asked.prompts}
        texts = dict(zip(_keys(candidates), candidates["text"].to_pylist(), strict=True))
        examples: dict[str, list[Example]] = {}
        for name in self.table.metrics:
            best = best_candidates(self._measured(name, candidates, asked), self.table.keep)
            examples[name] = _examples(best, prompts, texts)
            if not examples[name]:
                found = f"no item whose candidates differ in '{name}'"
                raise InputError("[policy.adapters.rewarded] metrics", found, "candidates that it can tell apart")
        train_adapters(self.policy.model, examples, self.steps.folder / ADAPTERS, self.settings)
        return {name: len(found) for name, found in examples.items()}

    def _weightings(self) -> list[tuple[float, ...]]:
        from bestfor.policies.soups import weight_grid

        return weight_grid(len(self.table.metrics), self.table.grid)

    def _try(self, weights: Sequence[float], held: BoolArray) -> dict[str, Any]:
        """Measure what the policy writes for held-out items with a weighting: each metric's mean over users."""
        folder = self.steps.folder / FOLDER / "trial"
        self._mix(weights, folder)
        asked = _take(self.early, held)
        candidates = self._sampled(self._with(folder), asked, self.table.held_out_n)
        owner = dict(zip(asked.queries["query_id"].to_pylist(), asked.queries["user_id"].to_pylist(), strict=True))
        found: dict[str, float] = {}
        for name in dict.fromkeys([self.primary, *self.table.metrics]):
            by_user: dict[str, list[float]] = {}
            for (query, _), value in self._measured(name, candidates, asked).items():
                by_user.setdefault(owner[query], []).append(value)
            found[name] = float(np.mean([np.mean(values) for values in by_user.values()]))
        shutil.rmtree(folder, ignore_errors=True)
        return {"weights": list(weights), "utility": found}

    def _mix(self, weights: Sequence[float], out: Path) -> None:
        from bestfor.policies.soups import mix_adapters

        folder = self.steps.folder / ADAPTERS
        parts = [(folder, name, one) for name, one in zip(self.table.metrics, weights, strict=True) if one > 0]
        mix_adapters(self.policy.model, dict.fromkeys(self.users, parts), out)

    def _with(self, adapters: Path) -> TransformersPolicy:
        """Copy the policy with some adapters; the model is loaded once."""
        twin = replace(self.policy, adapters=adapters)
        twin.__dict__["checkpoint"] = self.policy.checkpoint
        return twin

    def _sampled(self, policy: TransformersPolicy, asked: PromptedQueries, n: int) -> pa.Table:
        """Sample candidates of some items, or read them where they are there."""
        pool = CandidatePool(self.steps.folder / FOLDER / "pool")
        settings = SamplingSettings(n, n, 0, Prompting(), self.settings.seed)
        chunks = plan(policy, asked, settings)
        sample_owed(policy, chunks, pool, settings, tell=self.steps.tell)
        parts = [pool.read(chunk.key) for chunk in chunks]
        return with_text(pa.concat_tables([part for part in parts if part is not None] or [CANDIDATES.empty_table()]))

    def _measured(self, name: str, candidates: pa.Table, asked: PromptedQueries) -> dict[tuple[str, int], float]:
        """Measure candidates; utilities by query and candidate."""
        metric = self.metrics[name]
        with record_usage(self.steps.folder, metric.name, metric, self.steps.tell):
            found = measure(candidates, asked.queries, metric)
        return dict(zip(_keys(found), found["utility"].to_pylist(), strict=True))


def best_candidates(utilities: Mapping[tuple[str, int], float], keep: int) -> list[tuple[str, int]]:
    """Choose the best candidates of each query, the earlier of equal ones; none of a query whose utilities are equal.

    Args:
        utilities: by query and candidate.
        keep: how many of a query at most.

    Returns:
        (query, candidate), sorted.
    """
    by_query: dict[str, list[tuple[float, int]]] = {}
    for (query, candidate), value in utilities.items():
        by_query.setdefault(query, []).append((-value, candidate))
    chosen = [
        (query, candidate)
        for query, found in by_query.items()
        if min(found)[0] < max(found)[0]
        for _, candidate in sorted(found)[:keep]
    ]
    return sorted(chosen)


def _examples(
    best: Sequence[tuple[str, int]], prompts: Mapping[str, Prompt], texts: Mapping[tuple[str, int], str]
) -> list[Example]:
    from bestfor.policies.adapters import Example

    return [Example(prompts[query].messages, texts[query, candidate]) for query, candidate in best]


def _keys(table: pa.Table) -> Iterator[tuple[str, int]]:
    return zip(table["query_id"].to_pylist(), table["candidate"].to_pylist(), strict=True)


def _take(asked: PromptedQueries, chosen: BoolArray) -> PromptedQueries:
    rows = np.flatnonzero(chosen).tolist()
    prompts = tuple(asked.prompts[row] for row in rows)
    shown, dropped = (tuple(counts[row] for row in rows) for counts in (asked.shown, asked.dropped))
    return PromptedQueries(asked.queries.take(rows), prompts, shown, dropped)
