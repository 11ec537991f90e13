"""How fast encoders are, and whether a faster one picks the same texts: ratios within one run.

    python benchmarks/bench_encoders.py [--comments 300] [--abstracts 75] [--repeats 3] [--threads 2] [--model ridge]
    python benchmarks/bench_encoders.py --few 300              # milliseconds of 8 texts, plain encode and the table
    python benchmarks/bench_encoders.py --costs NAME ...       # texts a second and memory, each in its own process

Texts a second of every backend against plain SentenceTransformer.encode (batches of 32, its defaults), on short texts,
on long ones and on both mixed; by the clock and by processor time, which other work on the machine changes less. Then
a reward model is fitted once for each backend on one half of Bowling Green's fit texts and picks from pools of eight
of the other half: the share of pools in which another text is picked than with plain float32. Real texts are read from
../shared/data where they are (polis, acl_titles); else texts of such lengths are made up, and no picks are compared.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.encoders import CachedEncoder, load_encoder
from bestfor.encoders.hub import PACKAGED
from bestfor.encoders.names import BACKENDS

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CONVERSATION = "american-assembly.bowling-green"
POOL = 8
POOLS_PER_USER = 2
STATIC = f"static:{PACKAGED}"


def real_texts(short: int, long: int) -> tuple[list[str], list[str]] | None:
    """Comments and abstracts, None where the data are absent."""
    comments, papers = DATA / "polis" / CONVERSATION / "comments.csv", DATA / "acl_titles/background_papers.jsonl.gz"
    if not (comments.is_file() and papers.is_file()):
        return None
    with comments.open(encoding="utf-8", newline="") as file:
        bodies = dict.fromkeys(row["comment-body"] for row in csv.DictReader(file) if row["moderated"] == "1")
    with gzip.open(papers, "rt", encoding="utf-8") as file:
        abstracts = [json.loads(line)["abstract"] for _, line in zip(range(long), file, strict=False)]
    return list(bodies)[:short], abstracts


def made_texts(short: int, long: int) -> tuple[list[str], list[str]]:
    """Texts of about the same lengths."""
    draw = rng.derive(0, "texts")
    words = ["council", "river", "vote", "model", "parser", "road", "school", "tax", "corpus", "reader", "bridge"]

    def text(low: int, high: int) -> str:
        return " ".join(draw.choice(words, size=int(draw.integers(low, high))))

    return [text(5, 28) for _ in range(short)], [text(80, 180) for _ in range(long)]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def speeds(encoders: dict[str, CachedEncoder], kinds: dict[str, list[str]], repeats: int) -> None:
    """Print texts a second and ratios to plain encode; rounds of all, so that each meets the same neighbours."""
    plain = encoders["torch"].encoder._model
    works: dict[str, Callable[[list[str]], object]] = {
        "plain encode": lambda t: plain.encode(t, show_progress_bar=False)
    }
    works |= {name: encoder.encoder.encode for name, encoder in encoders.items()}
    for kind, texts in kinds.items():
        for work in works.values():
            work(texts[:32])
        rounds = np.array([[timed(lambda: work(texts)) for work in works.values()] for _ in range(repeats)])  # noqa: B023
        ratio = np.median(rounds[:, :1] / rounds, axis=0)
        best = rounds.min(axis=0)
        print(f"\n{kind}: {len(texts)} texts of {np.mean([len(text.split()) for text in texts]):.0f} words")
        for row, name in enumerate(works):
            print(
                f"  {name:12} {len(texts) / best[row, 0]:7.1f} texts/s by the clock ({ratio[row, 0]:.2f} x plain),"
                f" {len(texts) / best[row, 1]:7.1f} by processor time ({ratio[row, 1]:.2f} x)"
            )


def errors(encoders: dict[str, CachedEncoder], texts: Sequence[str]) -> None:
    """Print distances of unit vectors from those of float32."""
    reference = encoders["torch"].encode(texts)
    print("\ndistance of unit vectors from plain float32")
    for name, encoder in encoders.items():
        if encoder.dim != reference.shape[1]:
            continue
        distance = np.linalg.norm(encoder.encode(texts) - reference, axis=1)
        print(f"  {name:12} mean {distance.mean():.1e}, largest {distance.max():.1e}")


def picks(encoders: dict[str, CachedEncoder], model: str) -> None:
    """Print the share of pools in which a backend's model picks another text."""
    from bestfor.data.sources.polis import load_polis
    from bestfor.data.split import SplitConfig, split_ratings
    from bestfor.rewards import KINDS
    from bestfor.runs.joins import build_examples

    data = split_ratings(load_polis(DATA / "polis" / CONVERSATION), SplitConfig("text", 0, 20, 16))
    examples = build_examples(data.queries, data.candidates, data.utilities, "fit")
    half = np.array([rng.derive(0, "half", text).random() < 0.5 for text in examples.texts])[examples.text]
    fit, rest = examples.take(half), examples.take(~half)
    pools = _pools(rest)
    chosen = {}
    for name, encoder in encoders.items():
        fitted = KINDS[model](None, encoder=encoder).fit(fit, rng=0)
        mean = fitted.predict(rest).mean
        chosen[name] = np.take_along_axis(pools, mean[pools].argmax(1)[:, None], 1)[:, 0]
    print(f"\npicks of '{model}' from {len(pools)} pools of {POOL} unseen texts, {CONVERSATION}")
    for name, rows in chosen.items():
        share, value = np.mean(rest.text[rows] != rest.text[chosen["torch"]]), rest.utility[rows].mean()
        print(f"  {name:12} another pick in {share:.2%}, mean utility {value:.4f}")


def _pools(rest: Candidates) -> np.ndarray:
    found = []
    for user in np.unique(rest.user):
        rows = np.flatnonzero(rest.user == user)
        if len(rows) >= POOL:
            draw = rng.derive(0, "pools", rest.users[user])
            found += [draw.choice(rows, POOL, replace=False) for _ in range(POOLS_PER_USER)]
    return np.array(found)


def few(texts: Sequence[str], repeats: int) -> None:
    """Print milliseconds of calls with eight texts: the medians of plain encode and of the table, by turns."""
    plain = load_encoder(PACKAGED).encoder._model
    static = load_encoder(STATIC).encoder
    works = {"plain encode": lambda t: plain.encode(t, show_progress_bar=False), STATIC: static.encode}
    spent: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats):
        start = turn * POOL % (len(texts) - POOL)
        for name, work in works.items():
            spent[name].append(timed(lambda: work(list(texts[start : start + POOL])))[0])  # noqa: B023
    medians = {name: float(np.median(times)) * 1e3 for name, times in spent.items()}
    print(f"\n{POOL} texts, median of {repeats} calls by turns, load {os.getloadavg()[0]:.1f}")
    for name, median in medians.items():
        print(f"  {name:28} {median:8.3f} ms ({medians['plain encode'] / median:.1f} x plain)")


def cost(name: str, texts: list[str]) -> None:
    """Print what one encoder costs in this process: seconds to open it, texts a second, peak memory."""
    opened = timed(lambda: load_encoder(name))
    bare = load_encoder(name).encoder
    bare.encode(texts[:16])
    rounds = np.array([timed(lambda: bare.encode(texts)) for _ in range(3)]).min(axis=0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} | {bare.dim} | {opened[0]:.1f} | {len(texts) / rounds[0]:.0f} | {len(texts) / rounds[1]:.0f}"
        f" | {memory:.0f} | {'yes' if 'torch' in sys.modules else 'no'} |",
        flush=True,
    )


def costs(names: Sequence[str], comments: int) -> None:
    """Print a row of costs for each encoder."""
    print("| encoder | numbers | opened, s | texts/s by the clock | by processor time | peak memory, MiB | torch |")
    print("|---|---:|---:|---:|---:|---:|---|", flush=True)
    for name in names:
        subprocess.run([sys.executable, __file__, "--cost-of", name, "--comments", str(comments)], check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comments", type=int, default=300)
    parser.add_argument("--abstracts", type=int, default=75)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--model", default="ridge", help="reward model whose picks are compared; 'none' compares none")
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=list(BACKENDS), help="torch is always there")
    parser.add_argument("--few", type=int, default=0, help="calls of eight texts; nothing else is measured")
    parser.add_argument("--costs", nargs="*", help="encoders whose costs are measured; nothing else is")
    parser.add_argument("--cost-of", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.costs is not None:
        costs(given.costs, given.comments)
        return
    if given.cost_of:
        cost(given.cost_of, (real_texts(given.comments, 1) or made_texts(given.comments, 1))[0])
        return
    backends(given)


def backends(given: argparse.Namespace) -> None:
    """Compare all backends of the packaged encoder, and its table."""
    import torch

    torch.set_num_threads(given.threads)
    print(f"{platform.machine()}, {given.threads} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    texts = real_texts(given.comments, given.abstracts)
    short, long = texts or made_texts(given.comments, given.abstracts)
    if given.few:
        few(short, given.few)
        return
    mixed = [*short, *long]
    rng.derive(0, "mixed").shuffle(mixed)
    names = [name for name in BACKENDS if name == "torch" or name in given.backends]
    encoders = {name: load_encoder(PACKAGED if name == "torch" else f"{name}:{PACKAGED}") for name in names}
    encoders["static"] = load_encoder(STATIC)
    if given.repeats:
        speeds(encoders, {"short": short, "long": long, "mixed": mixed}, given.repeats)
    errors(encoders, mixed)
    if texts is not None and given.model != "none":
        picks(encoders, given.model)


if __name__ == "__main__":
    main()
