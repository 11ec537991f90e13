"""The figures of one cell of the suite, from its run: small enough to be kept with the documents."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bestfor import rng
from bestfor.data import schema
from bestfor.data.parts import CandidateParts
from bestfor.diagnostics import Panel, best_by_tokens, best_of_n, mbr_curve
from bestfor.diagnostics.intervals.influence import user_influences
from bestfor.encoders import load_encoder
from bestfor.rewards import load_model
from bestfor.rewards.mbr import cosine_matrix, exact_matrix, rouge_matrix
from bestfor.runs.config import FeedbackTable, RunConfig
from bestfor.runs.joins import build_parts
from bestfor.runs.stages import Stages
from bestfor.types import Estimate, FloatArray, IntArray

PROTOCOL_DRAWS = 3
"""The paper averages so many random subsets of the pool at each N."""
QUANTITIES = ("alpha", "beta", "rho_plus", "rho_minus")
CORRECTED = ("beta", "rho_plus", "rho_minus", "beta_05")
"""Corrected for noise; ``beta_05``, the share of correlations below -.05, alone has an interval."""
LAWS = ("bound", "normal", "reward", "pool")
WORD = 1.35
"""Tokens of a word, about."""
TIMED = 24
"""Test queries on which scoring is timed."""


def figures_of(config: RunConfig, stages: Stages, folder: Path, diagnosis: Mapping[str, Any]) -> dict[str, Any]:
    """All that the tables say of a cell."""
    parts = stages.parts()
    pools = Pools(parts)
    n = np.array(diagnosis["oracle"]["n"])
    rewards = {label: one.reward.mean for label, one in stages.predicted().items()}
    curves = {name: pools.best_of(pools.square(mean), n) for name, mean in rewards.items()}
    curves["oracle"] = pools.best_of(pools.utility, n)
    texts = pools.texts(parts)
    curves |= consensus(texts, pools, n, folder) if config.policy.feedback is None else {}
    facts, feedback = sizes(parts, texts), config.policy.feedback
    if feedback is not None:
        guide = pools.square(rewards[feedback.reward])
        curves |= {"feedback": followed(pools, guide, n, WORD * facts["words"], feedback)}
    return {
        "name": config.name,
        "sizes": facts,
        "n": n.tolist(),
        "policy": policy(config),
        "primary": config.utility.primary,
        "curves": {name: pools.spans(curve, curves["oracle"]) for name, curve in curves.items()},
        "users": {name: pools.by_user(curve) for name, curve in curves.items()},
        "names": list(pools.names),
        "protocol": {name: protocol(pools, mean, n, config.seed) for name, mean in rewards.items()},
        "other": other_metrics(config, folder, parts, rewards, n),
        "models": {name: of_model(one) for name, one in diagnosis["models"].items()},
        "usage": usage(folder),
        "scoring": scoring(folder, parts, [*rewards]),
    }


def policy(config: RunConfig) -> dict[str, Any]:
    """What of the policy the tables speak of."""
    table = config.policy
    found: dict[str, Any] = {"retriever": table.retriever, "items": table.items, "max_new_tokens": table.max_new_tokens}
    if table.feedback is not None:
        found |= {"width": table.feedback.width, "critique_tokens": table.feedback.critique_tokens}
    return found


class Pools:
    """Test pools as matrices, (queries, candidates), and whose they are.

    Args:
        parts: a run's candidates.
        utility: of the test rows, where they are another metric's.
    """

    def __init__(self, parts: CandidateParts, utility: FloatArray | None = None) -> None:
        test = parts.test
        used, self._row = np.unique(test.query, return_inverse=True)
        self.size: IntArray = np.bincount(self._row)
        self._column = np.arange(len(self._row)) - np.repeat(np.cumsum(self.size) - self.size, self.size)
        first = np.cumsum(self.size) - self.size
        names, self.owner = np.unique(np.array(test.users)[test.user[first]], return_inverse=True)
        self.names: tuple[str, ...] = tuple(names.tolist())
        self.queries = [test.queries[code] for code in used.tolist()]
        self.utility = self.square(parts.test_utility if utility is None else utility)
        self._weight = 1 / (np.bincount(self.owner)[self.owner] * len(self.names))

    def square(self, values: FloatArray) -> FloatArray:
        """Rows as a matrix; what is missing, and candidates without a reward, are below everything."""
        worst = float(np.nanmin(values)) - 1.0
        found = np.full((len(self.size), int(self.size.max())), worst)
        found[self._row, self._column] = np.where(np.isnan(values), worst, values)
        return found

    def best_of(self, score: FloatArray, n: IntArray) -> FloatArray:
        """Best-of-N of each query, shape (queries, N)."""
        every = self.sizes(n)
        return self.at(n, every, best_of_n(score, self.utility, self.size, every))

    def sizes(self, n: IntArray) -> IntArray:
        """Each N, and each number of candidates that a query has: an empty answer is no candidate."""
        return np.unique(np.concatenate([n, self.size]))

    def at(self, n: IntArray, every: IntArray, curve: FloatArray) -> FloatArray:
        """Values at each N; of a query with fewer candidates, at all that it has."""
        return np.take_along_axis(curve, np.searchsorted(every, np.minimum(n, self.size[:, None])), axis=1)

    def texts(self, parts: CandidateParts) -> list[list[str]]:
        """Each query's candidates."""
        found: list[list[str]] = [[] for _ in self.size]
        for row, code in zip(self._row.tolist(), parts.test.text.tolist(), strict=True):
            found[row].append(parts.test.texts[code])
        return found

    def by_user(self, curve: FloatArray) -> list[list[float]]:
        """Mean utility of each user at each N."""
        total = np.zeros((len(self.names), curve.shape[1]))
        np.add.at(total, self.owner, curve)
        return np.round(total / np.bincount(self.owner)[:, None], 4).tolist()

    def spans(self, curve: FloatArray, best: FloatArray) -> dict[str, Any]:
        """Mean utility and captured share at each N, each with its interval over users."""
        mean = self.pool_mean
        columns = range(curve.shape[1])
        values: dict[tuple[str, int], FloatArray] = {("one", 0): np.ones(len(mean)), ("mean", 0): mean}
        values |= {("curve", k): curve[:, k] for k in columns} | {("best", k): best[:, k] for k in columns}
        panel = Panel([user_influences(values, self._weight, self.owner, self.names)])
        utility = [panel.interval({("curve", k): 1.0}, {("one", 0): 1.0}) for k in columns]
        share = [
            panel.interval({("curve", k): 1.0, ("mean", 0): -1.0}, {("best", k): 1.0, ("mean", 0): -1.0})
            if float((best[:, k] - mean).sum()) > 1e-9
            else None
            for k in columns
        ]
        return {"utility": [ends(one) for one in utility], "captured": [one and ends(one) for one in share]}

    @property
    def pool_mean(self) -> FloatArray:
        """What a random candidate is worth, by query."""
        inside = np.arange(self.utility.shape[1]) < self.size[:, None]
        return np.where(inside, self.utility, 0.0).sum(axis=1) / self.size


def ends(one: Estimate) -> list[float | None]:
    """A value and its interval, rounded."""
    return [None if x is None else round(float(x), 4) for x in (one.value, one.low, one.high)]


def consensus(texts: list[list[str]], pools: Pools, n: IntArray, folder: Path) -> dict[str, FloatArray]:
    """Minimum Bayes risk among N drawn, by words and by embeddings, and the majority of equal texts."""
    encoder = load_encoder(cache=folder / "embeddings")
    alike = {
        "mbr, ROUGE-L": [rouge_matrix(one) for one in texts],
        "mbr, cosine": [cosine_matrix(one, encoder) for one in texts],
        "self-consistency": [exact_matrix(one) for one in texts],
    }
    every = pools.sizes(n)
    return {
        name: pools.at(n, every, mbr_curve(found, pools.utility, every, size=pools.size).utility)
        for name, found in alike.items()
    }


def followed(pools: Pools, reward: FloatArray, n: IntArray, each: float, feedback: FeedbackTable) -> FloatArray:
    """Utility of textual feedback within the tokens of N plain candidates; critiques count as long as they may be."""
    order = np.arange(reward.shape[1])
    spent = each * (order + 1.0) + 2.0 * feedback.critique_tokens * (order // feedback.width)
    return best_by_tokens(reward, pools.utility, np.tile(spent, (len(reward), 1)), each * n).utility


def protocol(pools: Pools, reward: FloatArray, n: IntArray, seed: int) -> list[float]:
    """Mean utility over users where each N is tried on three random subsets, as the paper has it."""
    score, found = pools.square(reward), []
    for size in n.tolist():
        draw = rng.derive(seed, "protocol", size)
        picked = np.zeros(len(score))
        for row, m in enumerate(pools.size.tolist()):
            for _ in range(PROTOCOL_DRAWS):
                places = draw.choice(m, size=min(size, m), replace=False)
                picked[row] += pools.utility[row, places[int(score[row, places].argmax())]] / PROTOCOL_DRAWS
        by_user = np.bincount(pools.owner, picked) / np.bincount(pools.owner)
        found.append(round(float(by_user.mean()), 4))
    return found


def other_metrics(
    config: RunConfig, folder: Path, parts: CandidateParts, rewards: Mapping[str, FloatArray], n: IntArray
) -> dict[str, Any]:
    """The picks of models that learned the primary metric, measured by the other ones."""
    found: dict[str, Any] = {}
    queries, candidates = schema.read(folder / "queries.parquet", schema.QUERIES), stages_pool(folder)
    for metric in config.utility.metrics:
        if metric == config.utility.primary:
            continue
        table = schema.read(folder / "utilities" / f"{metric}.parquet", schema.UTILITIES)
        pools = Pools(parts, build_parts(queries, candidates, table).test_utility)
        best = pools.best_of(pools.utility, n)
        curves = {name: pools.best_of(pools.square(mean), n) for name, mean in rewards.items()}
        found[metric] = {
            name: pools.spans(curve, best)["utility"] for name, curve in (curves | {"oracle": best}).items()
        }
    return found


def stages_pool(folder: Path) -> Any:  # noqa: ANN401 - a table of Arrow
    """The candidates of a run that have a text."""
    from bestfor.data.states import with_text
    from bestfor.pool import CandidatePool

    return with_text(CandidatePool(folder / "pool").scan())


def sizes(parts: CandidateParts, texts: list[list[str]]) -> dict[str, Any]:
    """What was sampled."""
    every = [text for row in texts for text in row]
    return {
        "authors": len(set(parts.test.user.tolist())),
        "questions": len(texts),
        "candidates": len(every),
        "labelled": len(parts.fit),
        "labelled_queries": len(set(parts.fit.query.tolist())),
        "distinct": round(sum(len(set(row)) for row in texts) / len(every), 3),
        "words": round(float(np.mean([len(text.split()) for text in every])), 2),
    }


def of_model(one: Mapping[str, Any]) -> dict[str, Any]:
    """Quantities, laws and ledger of a model."""
    seen, corrected = one["quantities"], one["quantities"]["corrected"] or {}
    return {
        "naive": {key: [rounded(seen.get(f"{key}{end}")) for end in ("", "_low", "_high")] for key in QUANTITIES},
        "corrected": {
            key: [rounded(corrected.get(f"{key}{end}")) for end in ("", "_low", "_high")] for key in CORRECTED
        },
        "gain": [[rounded(one[f"gain{end}"][k]) for end in ("", "_low", "_high")] for k in range(len(one["gain"]))],
        "law": {key: [rounded(x) for x in one["law"][key]] for key in LAWS},
        "ledger": {key: rounded(value) for key, value in one["ledger"].items() if not isinstance(value, (dict, list))},
    }


def rounded(value: float | None) -> float | None:
    """Four digits."""
    return None if value is None else round(float(value), 4)


def usage(folder: Path) -> dict[str, Any]:
    """Requests and tokens of the run, as far as a server told them."""
    path = folder / "usage.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def scoring(folder: Path, parts: CandidateParts, labels: list[str]) -> dict[str, float]:
    """Milliseconds of processor time to score a candidate, its embedding included, by model."""
    test = parts.test
    chosen = test.take(np.isin(test.query, np.unique(test.query)[:TIMED]))
    found: dict[str, float] = {}
    for label in labels:
        model = load_model(folder / "models" / label)
        if getattr(model, "usage", None) is not None or "hidden:" in str(getattr(model.config, "encoder", "")):
            continue  # a server's time, or a language model's, is another matter
        model.predict(chosen.take(np.arange(len(chosen)) < 1))
        start = time.process_time()
        model.predict(chosen)
        found[label] = round((time.process_time() - start) * 1e3 / len(chosen), 2)
    return found
