"""What a refit costs those who are asking: python benchmarks/bench_refit.py [--people 2000] [--seconds 10].

A run of 2,000 people with 15 ratings each and a journal with 5 more of each are served to eight clients; the 99 %
quantile of their waits is measured before, and while `bestfor refit` (a process of its own, one thread, low priority)
fits the model again, compares it and is done. The gateway is pinned to one core; clients, upstream and refit share the
others. Printed: both quantiles, their ratio, and how long the refit took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bestfor as bf
from bench_gateway import HOST, Instant, client, reply, start, texts
from bestfor.gateway.background_refits import NICE
from bestfor.labels.records import Label
from bestfor.rng import derive
from bestfor.serving.journal import Journal

RUN = """
[data]
source = "table"
path = "{path}"
[split]
min_fit = 8
min_test = 2
[[reward]]
kind = "hierarchical"
components = 0
"""


def make(folder: Path, people: int) -> Path:
    """Make the run and the journal."""
    pool = texts(400, "run")
    taste = {text: len(text) / 40 for text in pool}
    rows: list[str] = []
    labels: list[Label] = []
    for user in range(people):
        draw = derive(0, "refit", user)
        chosen = [pool[place] for place in draw.choice(len(pool), 20, replace=False)]
        values = [float(draw.normal(draw.normal() * taste[text], 0.5)) for text in chosen]
        for text, value in zip(chosen[:15], values, strict=False):
            rows.append(json.dumps({"user": f"u{user}", "text": text, "rating": value}))
        for number, (text, value) in enumerate(zip(chosen[15:], values[15:], strict=True)):
            yes = float(value > 0)
            labels.append(Label(f"{user}/{number}", f"u{user}", "thumb", None, yes, texts=(text,), prompt=f"p{number}"))
    (folder / "ratings.jsonl").write_text("\n".join(rows))
    (folder / "run.toml").write_text(RUN.format(path=folder / "ratings.jsonl"))
    bf.run(bf.load_config(folder / "run.toml"), folder / "run")
    with Journal(folder / "feedback.db") as journal:
        journal.add_labels("", labels)
    return folder / "run"


async def waits_of(port: int, seconds: float) -> np.ndarray:
    """Waits of eight clients, in milliseconds."""
    waits: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, until, waits, who) for who in range(8)))
    return 1000 * np.array(waits)


async def measure(folder: Path, run: Path, seconds: float) -> None:
    """Measure and print."""
    loop = asyncio.get_running_loop()
    Instant.answer = reply(8)
    server = await loop.create_server(Instant, HOST, 0)
    upstream = server.sockets[0].getsockname()[1]
    process, port, _ = await loop.run_in_executor(None, start, folder, run, upstream)
    try:
        await waits_of(port, 2.0)
        before = await waits_of(port, seconds)
        words = [sys.executable, "-m", "bestfor", "refit", str(run), "--journal", str(folder / "feedback.db")]
        began = time.perf_counter()
        refit = subprocess.Popen([*words, "--now", "--nice", str(NICE), "--json"], stdout=subprocess.PIPE)
        during: list[np.ndarray] = []
        while refit.poll() is None:
            during.append(await waits_of(port, 1.0))
        took = time.perf_counter() - began
        said = json.loads(refit.stdout.read()) if refit.stdout else {}
    finally:
        process.terminate()
        process.wait()
    found = np.concatenate(during)
    why = said.get("report", {}).get("reason")
    quantiles = [float(np.quantile(one, 0.99)) for one in (before, found)]
    print(f"refit: {said.get('state')}, {took:.1f} s, {said.get('labels')} labels; {why}")
    print(f"p99 of 8 clients: {quantiles[0]:.1f} ms before, {quantiles[1]:.1f} ms while it ran")
    print(f"ratio: {quantiles[1] / quantiles[0]:.2f}; answers: {len(before)} before, {len(found)} while it ran")


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder), given.people)
        asyncio.run(measure(Path(folder), run, given.seconds))


if __name__ == "__main__":
    main()
