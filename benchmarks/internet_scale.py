"""What a million users a day take: measured pieces, scaled, and what becomes the bottleneck first.

    python benchmarks/internet_scale.py [--users 10000 100000 1000000 10000000] [--requests 1] [--candidates 30]
        [--fitted 20000] [--core-hour 0.04] [--accelerator 10000 3.0] [--picture FILE]

Pieces are measured here, in processor seconds of one core, with the code that does them: tokens written by SmolLM2 in
llama.cpp (`bestfor models fetch smollm2`), texts read by encoders, thirty candidates scored for one user of a model of
generated users in shards, labels stored in a journal, and a refit of all users in blocks. A day of U users is then U
times the pieces of one user's day; the peak hour is taken as three mean hours. Accelerators are not measured: their
tokens a second and price an hour are assumptions, as is the price of a core hour. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import psutil

import bench_shards
from bench_journal import learn
from bestfor.encoders import load_encoder
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.rng import derive

DAY = 86_400.0
PEAK = 3.0
LABELS = 30
TOKENS = 24
ENCODERS = ("all-MiniLM-L6-v2", "static:all-MiniLM-L6-v2")
WORDS = [
    "the",
    "of",
    "new",
    "on",
    "after",
    "says",
    "city",
    "river",
    "late",
    "mayor",
    "plan",
    "early",
    "vote",
    "team",
    "wins",
]


@dataclass(frozen=True)
class Pieces:
    """Processor seconds and bytes of one unit of each piece of work.

    Attributes:
        token: of a token that is written, seconds; its share of reading the prompt included.
        texts: of a text that is read, seconds, by encoder.
        score: of scoring all candidates of a request, embeddings at hand, seconds.
        label: of storing a label, seconds.
        refit: of refitting one user, seconds.
        state: of one user's model on disk, bytes.
        kept: of one label in the journal, bytes.
    """

    token: float
    texts: dict[str, float]
    score: float
    label: float
    refit: float
    state: float
    kept: float


def sampling(candidates: int) -> float:
    """Processor seconds of a token: one title of 24 tokens each, behind prompts of some 300 tokens."""
    policy = OpenAIPolicy("smollm2", base_url="local:smollm2?threads=1", max_new_tokens=TOKENS, temperature=1.0)
    rng = derive(0, "internet scale", "prompts")
    prompts = [Prompt(f"q{i}", (_ask(rng),), f"u{i}") for i in range(4)]
    policy.sample(prompts[:1], candidates, seed=0)
    before = _children()
    written = policy.sample(prompts[1:], candidates, seed=0)
    took = _children() - before
    policy.close()
    return took / sum(one.tokens for each in written for one in each)


def _ask(rng: np.random.Generator) -> dict[str, str]:
    text = " ".join(rng.choice(WORDS, 220))
    return {"role": "user", "content": f"Write a headline for this article: {text}"}


def _children() -> float:
    """Processor seconds of the processes that this one has started."""
    spent = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in spent)


def encoding(name: str, count: int = 600) -> float:
    """Processor seconds of a text of ten words."""
    encoder = load_encoder(name).encoder
    rng = derive(0, "internet scale", "texts")
    texts = [" ".join(rng.choice(WORDS, 10)) for _ in range(count)]
    encoder.encode(texts[:32])
    start = time.process_time()
    encoder.encode(texts[32:])
    return (time.process_time() - start) / (count - 32)


def run_scores(folder: str, features: int, candidates: int) -> dict[str, Any]:
    """Processor seconds of scoring the candidates of one user after another, each user met for the first time."""
    from bestfor.rewards import load

    model = load(Path(folder), encoder=bench_shards.Generated(features))
    users = int(json.loads((Path(folder).parent / "users.json").read_text()))
    asked = derive(0, "internet scale", "asked").integers(0, users, 200).tolist()
    texts = [str(number) for number in range(candidates)]
    model.score(f"user-{asked[0]:08}", "", texts)
    start = time.process_time()
    for code in asked[1:]:
        model.score(f"user-{code:08}", "", texts)
    return {"score": (time.process_time() - start) / (len(asked) - 1)}


def models(users: int, candidates: int) -> tuple[float, float, float]:
    """Seconds of a refit and of a request, and bytes of a user, with `hierarchical` of so many generated users."""
    options = argparse.Namespace(labels=LABELS, features=bench_shards.FEATURES)
    with tempfile.TemporaryDirectory() as root:
        place = Path(root) / "users"
        bench_shards.prepare_labels(place, users, options)
        given = {"folder": str(place / "hierarchical"), "features": options.features}
        fitted = bench_shards.alone("run_fit", kind="hierarchical", labels=str(place / "blocks"), **given)
        scored = run_scores(candidates=candidates, **given)
    return fitted["cpu"] / users, scored["score"], fitted["size"] * 1e6 / users


def journal(count: int = 20_000) -> tuple[float, float]:
    """Processor seconds and bytes of a label that is stored for good, 32 threads at once."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "journal.db"
        found = learn(path, 32, count, "FULL")
        size = sum(one.stat().st_size for one in Path(root).iterdir())
    return found.processor / 1e6, size / count


def measure(options: argparse.Namespace) -> Pieces:
    """Measure all pieces; progress goes to standard error."""
    print("tokens", file=sys.stderr)
    token = sampling(options.candidates)
    print("texts", file=sys.stderr)
    texts = {name: encoding(name) for name in ENCODERS}
    print("labels", file=sys.stderr)
    label, kept = journal()
    print("users", file=sys.stderr)
    refit, score, state = models(options.fitted, options.candidates)
    return Pieces(token, texts, score, label, refit, state, kept)


def day(pieces: Pieces, options: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of one user's day, by piece: a refit of everybody a day, one label a request."""
    written = options.requests * options.candidates
    static = pieces.texts[ENCODERS[1]]
    return {
        "sampling, SmolLM2 on cores": written * TOKENS * pieces.token,
        f"encoding, {ENCODERS[0]}": written * pieces.texts[ENCODERS[0]],
        f"encoding, {ENCODERS[1]}": written * static,
        "scoring": options.requests * pieces.score,
        "journal": options.requests * pieces.label,
        "refit": pieces.refit,
    }


def tables(pieces: Pieces, options: argparse.Namespace) -> None:
    """Print the pieces, and what days of so many users take."""
    print(f"Measured on {platform.machine()}, {os.cpu_count()} cores, one thread, processor time.\n")
    print("| piece | processor time | |\n|---|---:|---|")
    rows = [("a token of SmolLM2-135M, llama.cpp", pieces.token, f"{1 / pieces.token:,.0f} a second and core")]
    for name, each in pieces.texts.items():
        rows.append((f"a text of ten words, `{name}`", each, f"{1 / each:,.0f} a second and core"))
    rows.append((f"{options.candidates} candidates of one user scored", pieces.score, "embeddings at hand"))
    rows.append(("a label stored", pieces.label, f"{pieces.kept:.0f} bytes"))
    what = f"a user refitted ({LABELS} labels, {bench_shards.FEATURES} features)"
    rows.append((what, pieces.refit, f"{pieces.state:.0f} bytes of state"))
    for name, each, note in rows:
        print(f"| {name} | {1e3 * each:.3f} ms | {note} |")
    day_of = f"{options.requests:g} request of {options.candidates} candidates a user and day"
    print(f"\nCores at the peak hour ({PEAK:g} mean hours), {day_of}:\n")
    print("| |" + "".join(f" {users:,} users |" for users in options.users))
    print("|---|" + "---:|" * len(options.users))
    for name, each in scaled(pieces, options).items():
        print(f"| {name} |" + "".join(f" {users * each:,.2f} |" for users in options.users))
    _, price = options.accelerator
    print(f"\nPrices are assumptions: {options.core_hour:g} a core hour, {price:g} an accelerator hour.")


def scaled(pieces: Pieces, options: argparse.Namespace) -> dict[str, float]:
    """Everything that grows with the number of users, of one user."""
    rate, _ = options.accelerator
    written = options.requests * options.candidates * TOKENS
    rows = {f"cores: {name}": PEAK * seconds / DAY for name, seconds in day(pieces, options).items()}
    rows[f"accelerators of {rate:,.0f} tokens a second (assumed)"] = PEAK * written / rate / DAY
    rows["GB of users' states"] = pieces.state / 1e9
    rows["GB of a year's labels"] = options.requests * 365 * pieces.kept / 1e9
    rows["hours of a refit on one core"] = pieces.refit / 3600
    return rows | {f"a day's cost: {name}": each for name, each in cost_of_day(pieces, options).items()}


def cost_of_day(pieces: Pieces, options: argparse.Namespace) -> dict[str, float]:
    """Price of one user's day by piece, in the currency of the assumed prices."""
    rate, price = options.accelerator
    core = options.core_hour / 3600
    found = {name: seconds * core for name, seconds in day(pieces, options).items()}
    found["sampling, accelerators"] = options.requests * options.candidates * TOKENS / rate * price / 3600
    return found


def picture(pieces: Pieces, options: argparse.Namespace) -> None:
    """Draw the cost of a day against users, by piece."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    users = np.geomspace(min(options.users), max(options.users), 50)
    for name, each in sorted(cost_of_day(pieces, options).items(), key=lambda one: -one[1]):
        axes.loglog(users, users * each, label=name)
    axes.set_xlabel("users, one request of 30 candidates a day")
    axes.set_ylabel("cost of a day (assumed prices)")
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    axes.set_title("Sampling is nearly all of the cost, at any number of users", loc="left")
    figure.savefig(options.picture)


def main() -> None:
    """Measure, or read what was measured, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--requests", type=float, default=1.0, help="requests of a user a day")
    parser.add_argument("--candidates", type=int, default=30)
    parser.add_argument("--fitted", type=int, default=20_000, help="generated users of the model that is measured")
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--accelerator", type=float, nargs=2, default=[10_000.0, 3.0], metavar=("TOKENS", "PRICE"))
    parser.add_argument("--picture", type=Path, default=None)
    options = parser.parse_args()
    pieces = measure(options)
    tables(pieces, options)
    if options.picture is not None:
        picture(pieces, options)


if __name__ == "__main__":
    main()
