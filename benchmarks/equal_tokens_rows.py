"""The rows of equal_tokens.py: one pool for all rules, the curves of the rules, and what textual feedback spends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bestfor.data.candidates import Candidates
from bestfor.data.world import INSTRUCTIONS, World, build, true_utility
from bestfor.diagnostics import RuleCurve, best_by_tokens, best_of_n, mbr_curve
from bestfor.encoders import load_encoder
from bestfor.errors import BestforError
from bestfor.metrics.taste import Taste
from bestfor.policies.base import Prompt
from bestfor.policies.feedback import Trace
from bestfor.policies.transformers import TransformersPolicy
from bestfor.pool import CandidatePool
from bestfor.rewards import KINDS, RewardModel
from bestfor.rewards.mbr import cosine_matrix, rouge_matrix
from bestfor.runs.joins import build_examples, build_history
from bestfor.runs.measuring import measure
from bestfor.runs.prompts import Prompting, build_prompts
from bestfor.runs.sampling import SamplingSettings, generate
from bestfor.types import FloatArray, IntArray

N = np.array([1, 2, 4, 8, 16, 30])
FIT_N, FIT_ITEMS, KEPT = 12, 5, 4
"""As in world_table.py: of 12 candidates of each of 5 items the first 4 are labelled, 20 labels a user."""
ENCODER = "all-MiniLM-L6-v2"

Curves = dict[str, FloatArray]
"""A row's name -> utility of what it answers with, shape (Q, K)."""


@dataclass(frozen=True)
class Setting:
    """The world, its pool, and who asks; Q test queries with M candidates each.

    Attributes:
        world: the users and their true utilities.
        queries: table of schema ``QUERIES``.
        fit: labelled candidates.
        test: candidates of the test queries, by (query, candidate), without utilities.
        names: ids of the test queries.
        owner: shape (Q,), codes of their users.
        utility: shape (Q, M), true.
        tokens: shape (Q, M), generated for each candidate.
        prompts: of the test queries.
    """

    world: World
    queries: pa.Table
    fit: Candidates
    test: Candidates
    names: tuple[str, ...]
    owner: IntArray
    utility: FloatArray
    tokens: FloatArray
    prompts: tuple[Prompt, ...]

    @property
    def texts(self) -> list[list[str]]:
        """Each query's candidates."""
        return [[self.test.texts[code] for code in row] for row in self.test.text.reshape(self.utility.shape)]

    @property
    def inputs(self) -> list[str]:
        """What each query asks."""
        known = dict(zip(self.test.queries, self.test.inputs, strict=True))
        return [known[name] for name in self.names]


def prepare(policy: TransformersPolicy, world: World, each: int, out: Path) -> Setting:
    """Sample the pool and measure it."""
    built, prompting = build(world), Prompting(INSTRUCTIONS[world.task], 4, "recency")
    sampling = SamplingSettings(n=int(N[-1]), fit_n=FIT_N, fit_items=FIT_ITEMS, prompting=prompting, seed=world.seed)
    pool = CandidatePool(out / "pool")
    with timed("pool"):
        queries = generate(policy, built.histories, built.queries, pool, sampling)
        candidates, history = pool.scan(), build_history(built.histories, queries)
        utilities = measure(candidates, queries, Taste(world))
    fit = build_examples(queries, candidates, utilities, "fit", history)
    known = build_examples(queries, candidates, utilities, "test", history)
    owner = np.zeros(len(known.queries), dtype=np.int64)
    owner[known.query] = known.user
    # queries stand in the order of their ids, a user's side by side
    first = np.array([int((owner[:code] == owner[code]).sum()) for code in range(len(owner))]) < each
    known = known.take(first[known.query])
    names = tuple(name for name, chosen in zip(known.queries, first.tolist(), strict=True) if chosen)
    asked = {
        one.query_id: one for one in build_prompts(policy, built.histories, built.queries, FIT_ITEMS, prompting).prompts
    }
    blind = build_examples(queries, candidates, None, "test", history)
    shape = (len(names), int(N[-1]))
    return Setting(
        world=world,
        queries=queries,
        fit=fit.take(fit.candidate < KEPT),
        test=blind.take(first[blind.query]),
        names=names,
        owner=owner[first],
        utility=known.utility.reshape(shape),
        tokens=recounted(policy, known, candidates).reshape(shape),
        prompts=tuple(asked[name] for name in names),
    )


def recounted(policy: TransformersPolicy, rows: Candidates, candidates: pa.Table) -> FloatArray:
    """Tokens of each row's text, and one for the end where the model wrote it; shape (rows,)."""
    columns = (candidates[name].to_pylist() for name in ("query_id", "candidate", "finish_reason"))
    ended = {(query, number) for query, number, reason in zip(*columns, strict=True) if reason == "stop"}
    encoded = policy.checkpoint.tokenizer(list(rows.texts), add_special_tokens=False)["input_ids"]
    lengths = np.array([len(one) for one in encoded], dtype=np.float64)
    keys = zip((rows.queries[code] for code in rows.query), rows.candidate.tolist(), strict=True)
    return lengths[rows.text] + np.array([key in ended for key in keys])


def fitted(
    setting: Setting, out: Path, options: Mapping[str, dict[str, Any]]
) -> tuple[dict[str, RewardModel], tuple[str, ...]]:
    """Every kind that learns from labels here, fitted; and what is to be said of others."""
    found: dict[str, RewardModel] = {}
    said = ["`tastes` has no row: it is for texts that many people rated, and here every text is new"]
    for kind, model in KINDS.items():
        if kind in ("tastes", "mbr") or (kind == "judge" and kind not in options):
            continue
        try:
            with timed(kind):
                found[kind] = model(cache=out / "embeddings", **options.get(kind, {})).fit(setting.fit, rng=0)
        except BestforError as error:
            said.append(f"`{kind}` was not run: {error}")
    return found, tuple(said)


def mbr_curves(setting: Setting, out: Path) -> tuple[Curves, dict[str, RuleCurve]]:
    """Minimum Bayes risk among N drawn, by words and by embeddings."""
    encoder = load_encoder(ENCODER, cache=out / "embeddings")
    with timed("mbr"):
        alike = {
            "mbr, ROUGE-L": [rouge_matrix(texts) for texts in setting.texts],
            "mbr, cosine": [cosine_matrix(texts, encoder) for texts in setting.texts],
        }
        drawn = {name: mbr_curve(matrices, setting.utility, N) for name, matrices in alike.items()}
    return {name: curve.utility for name, curve in drawn.items()}, drawn


def rule_curves(setting: Setting, models: Mapping[str, RewardModel]) -> Curves:
    """What every reward model picks among N candidates of the pool, and the two ends."""
    size = np.full(len(setting.utility), setting.utility.shape[1])
    curves: Curves = {"single sample": np.repeat(setting.utility.mean(axis=1, keepdims=True), len(N), axis=1)}
    for kind, model in models.items():
        with timed(f"{kind}, rewards"):
            reward = model.predict(setting.test).mean.reshape(setting.utility.shape)
        # a candidate without a reward is never preferred to one that has any
        worst = np.where(np.isnan(reward).all(axis=1), 0.0, np.nanmin(np.nan_to_num(reward, nan=np.inf), axis=1)) - 1
        curves[kind] = best_of_n(np.where(np.isnan(reward), worst[:, None], reward), setting.utility, size, N)
    curves["oracle"] = best_of_n(setting.utility, setting.utility, size, N)
    return curves


def mbr_error(drawn: Mapping[str, RuleCurve]) -> str:
    """How exact the curves of MBR are."""
    worst = max(float(np.nanmax(curve.mean()[1])) for curve in drawn.values())
    listed = sorted({int(n) for curve in drawn.values() for n in N[curve.exact.all(axis=0)]})
    return (
        f"`mbr` is exact at N = {', '.join(map(str, listed))}; elsewhere it is the mean over 2,000 random subsets of "
        f"every pool, whose standard error in the figures above is at most {worst:.5f}"
    )


def affordable(setting: Setting, width: int, critique_tokens: int) -> int:
    """Candidates of TPO that spend the largest budget, where critiques and advice are as long as they may be."""
    each = float(setting.tokens.mean())
    left = (float(N[-1]) - width) * each
    return width * (1 + max(int(np.ceil(left / (width * each + 2 * critique_tokens))), 0))


def feedback_curve(setting: Setting, traces: list[Trace], budget: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """Utility of TPO's answer at each budget, (Q, K), and what is to be said of it."""
    utility = np.array(
        [
            true_utility(setting.world, trace.prompt.user_id, given, [one.text for one in trace.candidates])
            for trace, given in zip(traces, setting.inputs, strict=True)
        ]
    )
    scores, spent = np.array([trace.scores for trace in traces]), np.array([trace.spent for trace in traces])
    found, width = best_by_tokens(scores, utility, spent, budget), traces[0].width
    by_step = (len(utility), -1, width)
    sampled = np.array([[one.tokens for one in trace.candidates[:width]] for trace in traces])
    exact = float(np.mean(sampled == setting.tokens[:, :width]))
    return found.utility, (
        f"TPO's tokens in the mean at each budget: {listed(found.used.mean(axis=0), 0)}",
        f"TPO's best scored so far, mean reward at each budget: {listed(found.reward.mean(axis=0))}",
        f"TPO's candidates by step, mean reward: {listed(scores.reshape(by_step).mean(axis=(0, 2)))}",
        f"TPO's candidates by step, mean utility: {listed(utility.reshape(by_step).mean(axis=(0, 2)))}",
        f"tokens counted again from texts agree with those sampled in {exact:.1%} of TPO's first candidates",
    )


def listed(values: FloatArray, digits: int = 3) -> str:
    """Numbers in a row."""
    return ", ".join(f"{one:.{digits}f}" for one in values.tolist())


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how many seconds of processor time a block took."""
    start = time.process_time()
    yield
    print(f"{what}: {time.process_time() - start:.1f} s", file=sys.stderr, flush=True)
