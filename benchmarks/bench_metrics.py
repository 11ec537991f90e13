"""How fast metrics are: ratios within one run, since absolute times wander between machines and hours.

    python benchmarks/bench_metrics.py [--pairs 100000] [--repeats 3]

ROUGE-L of pairs of a title's length and of an abstract's length: with one process, with two (which pay for the start
of the second in every round), and with rouge-score itself on a part of the pairs. Where other work shares the
processors two processes cannot have twice what one has: the probe, plain work in one and in two processes at once,
says how much more they could have had, and the processor time of both together what two free cores would give at best.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Other processes begin by reading the file that started them: the command line loads little there, nor shall this one.
if __name__ != "__mp_main__":
    import numpy as np
    import pyarrow as pa

    from bestfor import rng
    from bestfor.data.schema import CANDIDATES, QUERIES
    from bestfor.metrics.overlap import Overlap
    from bestfor.runs.measuring import Measuring, measure

EACH = 20
PACKAGE_SHARE = {10: 20, 120: 400}
"""rouge-score measures one in so many pairs: its tables grow with the product of the lengths."""


def pairs(count: int, length: int) -> tuple[pa.Table, pa.Table]:
    """Candidates and queries whose texts have about so many words, of a vocabulary with few frequent words."""
    draw = rng.derive(0, "pairs", length)
    words = np.array([f"{'bcdfghklmn'[k % 10]}{'aeiou'[k % 5]}{'rst'[k % 3]}{k:x}" for k in range(3000)])
    chance = 1 / np.arange(10, 3010)
    cumulative = np.cumsum(chance / chance.sum())

    def text() -> str:
        size = int(draw.integers(length // 2, 3 * length // 2 + 1))
        return " ".join(words[np.searchsorted(cumulative, draw.random(size)).clip(0, 2999)])

    queries = [(f"q{k:06}", "u", "in", text(), "test", None) for k in range(count // EACH)]
    rows = [(f"q{k // EACH:06}", k % EACH, f"t{k}", text(), None, "stop", "p", 0) for k in range(count)]
    return _table(rows, CANDIDATES), _table(queries, QUERIES)


def _table(rows: list[tuple], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(list(c), field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    return both(work)[0]


def both(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time of one call, and the processor time of it and of the processes that it started and ended."""
    began, spent = time.perf_counter(), _spent()
    work()
    return time.perf_counter() - began, _spent() - spent


def _spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def spin(count: int) -> float:
    """Seconds of plain work that needs nothing but a processor."""
    began = time.perf_counter()
    sum(k * k for k in range(count))
    return time.perf_counter() - began


def probe(rounds: int = 3) -> float:
    """How much more two processes at once get done than one alone, at this moment."""
    gains = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(spin, [1000, 1000])
        for _ in range(rounds):
            alone = pool.apply(spin, (4_000_000,))
            gains.append(2 * alone / seconds(lambda: pool.map(spin, [4_000_000] * 2, chunksize=1)))
    return float(np.median(gains))


def package(candidates: pa.Table, queries: pa.Table, share: int) -> tuple[float, np.ndarray]:
    """Processor seconds and values of rouge-score for one in so many pairs."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    references = dict(zip(queries["query_id"].to_pylist(), queries["reference"].to_pylist(), strict=True))
    rows = list(zip(candidates["query_id"].to_pylist(), candidates["text"].to_pylist(), strict=True))[::share]
    began = _spent()
    found = [scorer.score(references[name], text)["rougeL"].fmeasure for name, text in rows]
    return _spent() - began, np.array(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {given.pairs} pairs a round")
    print(f"probe: two processes at once get {probe():.2f} times as much done as one")
    for length in PACKAGE_SHARE:
        compare(length, given.pairs, given.repeats)


def compare(length: int, count: int, repeats: int) -> None:
    """Time one process, two, and rouge-score on pairs of a length, and print it."""
    metric = Overlap("rougeL")
    candidates, queries = pairs(count, length)
    one, two = [], []
    for _ in range(repeats):
        one.append(both(lambda: measure(candidates, queries, metric)))
        two.append(both(lambda: measure(candidates, queries, metric, Measuring(workers=2))))
    share = PACKAGE_SHARE[length]
    taken, values = package(candidates, queries, share)
    assert np.array_equal(values, measure(candidates, queries, metric)["utility"].to_numpy()[::share])
    ratio, work = np.median(np.array(one) / np.array(two), axis=0)
    alone, together = np.min(one, axis=0), np.min(two, axis=0)
    print(
        f"{length} words: one {alone[0]:.2f} s, two processes {together[0]:.2f} s, ratio {ratio:.2f};"
        f" processor time {alone[1]:.2f} and {together[1]:.2f} s, so {2 * work:.2f} on two free cores at best;"
        f" rouge-score {taken * share:.0f} s of processor time, from {len(values)} pairs,"
        f" {taken * share / alone[1]:.0f} times one process, with equal values"
    )


if __name__ == "__main__":
    main()
