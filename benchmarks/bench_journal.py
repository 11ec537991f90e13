"""Time the journal: durable labels a second, the disk's share, opening and reading a large one, persons' memory.

python benchmarks/bench_journal.py [--threads 128] [--labels 20000] [--rows 1000000] [--persons 2000]
"""

from __future__ import annotations

import argparse
import gc
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.rewards import build
from bestfor.serving.journal import Journal, Label, database
from bestfor.serving.journal.records import digest, pack
from bestfor.testing.rewards import LetterEncoder

TEXT = "a candidate of sixty characters or so, as headlines often are"


def learn(folder: Path, threads: int, count: int, synchronous: str) -> tuple[float, float]:
    """Labels a second of threads that each wait for their label to be stored, and labels a commit."""
    each = count // threads
    with (
        mock.patch.object(database, "SYNCHRONOUS", synchronous),
        Journal(folder / f"{threads}-{synchronous}.db") as journal,
    ):

        def work(number: int) -> None:
            for place in range(each):
                key = f"{number}-{place}"
                label = Label(key, f"u{place % 500}", "thumb", value=1.0, texts=(TEXT,), time=1.0)
                journal.add_labels("", [label])

        started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        begin = time.perf_counter()
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        return each * threads / (time.perf_counter() - begin), each * threads / journal.commits


def large(folder: Path, rows: int) -> None:
    """Fill a journal without its code, then open it and read one person's 50 labels."""
    path, users = folder / "large.db", rows // 50
    Journal(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    text, prompt = pack([TEXT]), pack("")
    begin = time.perf_counter()
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO people VALUES (?, '', ?, ?)",
        ((digest("", f"u{user}"), f"u{user}", user + 1) for user in range(users)),
    )
    people = [digest("", f"u{user}") for user in range(users)]
    connection.executemany(
        'INSERT INTO labels ("row", person, key, kind, value, texts, prompt, weight, time, hashed)'
        " VALUES (?, ?, ?, 'thumb', 1.0, ?, ?, 0.5, 1.0, 0)",
        ((digest("", f"k{row}"), people[row % users], f"k{row}", text, prompt) for row in range(rows)),
    )
    connection.execute("COMMIT")
    connection.close()
    size = path.stat().st_size / 1e6
    print(f"{rows:,} labels of {users:,} people written in {time.perf_counter() - begin:.0f} s, {size:.0f} MB")
    begin = time.perf_counter()
    with Journal(path) as journal:
        opened = time.perf_counter() - begin
        times = []
        for user in np.random.default_rng(0).integers(users, size=200):
            begin = time.perf_counter()
            found = journal.labels_of("", f"u{user}")
            times.append(time.perf_counter() - begin)
        standing = time.perf_counter()
        for user in range(500):
            journal.standing("", f"u{user}")
        standing = (time.perf_counter() - standing) / 500
    low, high = np.quantile(times, [0.5, 0.95]) * 1e3
    print(f"opens in {opened * 1e3:.0f} ms; one person's {len(found)} labels: {low:.2f} ms (95 %: {high:.2f})")
    print(f"whether anything about a person has changed: {standing * 1e3:.2f} ms")


def persons(count: int) -> None:
    """Memory of persons of 50 labels, of a model with 32 components."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghij"), size=5)) for _ in range(300)]
    texts = [" ".join(draw.choice(words, size=8)) for _ in range(600)]
    rows = [(f"u{user}", texts[draw.integers(600)], draw.normal()) for user in range(40) for _ in range(20)]
    fit = Candidates.of([u for u, _, _ in rows], [""] * len(rows), [[t] for _, t, _ in rows], [[y] for _, _, y in rows])
    model = build("hierarchical", encoder=LetterEncoder(), components=32).fit(fit, rng=0)
    said = [
        Labels(tuple(Rated("", texts[draw.integers(600)], float(draw.normal())) for _ in range(50)))
        for _ in range(count)
    ]
    kept = [model.person("new", one) for one in said[:20]]
    gc.collect()
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    kept = [model.person("new", one) for one in said]
    took = (time.perf_counter() - begin) / count * 1e3
    gc.collect()
    each = (psutil.Process().memory_info().rss - before) / count
    print(f"a person of 50 labels: {took:.2f} ms to make, {each / 1e3:.1f} kB ({len(kept):,} made);")
    print(f"  20,000 of them: {20_000 * each / 1e6:.0f} MB")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=128)
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--persons", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for threads in (1, 8, 32, asked.threads):
            count = min(asked.labels, 400 * threads)
            rate, shared = learn(Path(folder), threads, count, "FULL")
            free, _ = learn(Path(folder), threads, count, "OFF")
            print(
                f"{threads} threads: {rate:,.0f} labels a second on the disk, {shared:.1f} labels a commit; "
                f"without waiting for it {free:,.0f}: its share {1 - rate / free:.0%}"
            )
        large(Path(folder), asked.rows)
    persons(asked.persons)


if __name__ == "__main__":
    main()
