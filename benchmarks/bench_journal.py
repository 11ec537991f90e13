"""Time the journal: durable labels a second, the disk's share, opening and reading a large one, persons' memory.

python benchmarks/bench_journal.py [learn] [large] [about] [persons] [--threads 1 8 32 128] [--labels 20000]
    [--rounds 5] [--rows 10000000] [--persons 20000] [--kinds hierarchical tastes] [--folder .] [--journal FILE]

Without names all four run. ``large`` needs 2.5 GB of disk and 3 GB of memory for ten million labels, and removes them.
"""

from __future__ import annotations

import argparse
import gc
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from bestfor.data.candidates import Candidates
from bestfor.encoders import load_encoder
from bestfor.rewards import build
from bestfor.serving import LabelScale, Service
from bestfor.serving.journal import Journal, Label, database
from bestfor.serving.journal.recent import recent_people, totals
from bestfor.serving.journal.records import digest, pack

TEXT = "a candidate of sixty characters or so, as headlines often are"
EACH = 50
"""Labels of a person."""


@dataclass(frozen=True)
class Learning:
    """Figures of threads that each wait for their labels to be stored.

    Attributes:
        rate: labels a second.
        shared: labels a commit.
        waited: share of the time that commits take.
        processor: microseconds of processor time a label.
    """

    rate: float
    shared: float
    waited: float
    processor: float


def learn(path: Path, threads: int, count: int, synchronous: str, users: int = 500) -> Learning:
    """Time threads that each wait for theirs to be stored."""
    each = count // threads
    waited = [0.0]

    def work(journal: Journal, number: int) -> None:
        for place in range(each):
            user = f"u{(number * each + place) * 7919 % users}"
            label = Label(f"{begin}-{number}-{place}", user, "thumb", value=1.0, texts=(TEXT,), time=1.0)
            journal.add_labels("", [label])

    with mock.patch.object(database, "SYNCHRONOUS", synchronous), Journal(path) as journal:
        _time_commits(journal, waited)
        before = journal.commits
        started = [threading.Thread(target=work, args=(journal, number)) for number in range(threads)]
        begin, processor = time.perf_counter(), time.process_time()
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        took, done = time.perf_counter() - begin, each * threads
        used = (time.process_time() - processor) / done * 1e6
        return Learning(done / took, done / (journal.commits - before), waited[0] / took, used)


def _time_commits(journal: Journal, waited: list[float]) -> None:
    """Add up the time that the writer's commits take: they write and sync the log, all else is done before."""
    dialect = journal._engine.dialect
    commit = dialect.do_commit

    def timed(connection: object) -> None:
        begin = time.perf_counter()
        commit(connection)  # pyright: ignore[reportArgumentType]
        waited[0] += time.perf_counter() - begin

    dialect.do_commit = timed  # pyright: ignore[reportAttributeAccessIssue]


def report_learning(folder: Path, threads: list[int], labels: int, rounds: int) -> None:
    """Durable labels a second by the number of threads: the fastest round, in turn with and without the disk."""
    for number in threads:
        count, found = min(labels, 400 * number), {"FULL": [], "OFF": []}
        for turn in range(rounds):
            for synchronous, each in found.items():
                each.append(learn(folder / f"{number}-{synchronous}-{turn}.db", number, count, synchronous))
        full, off = (max(each, key=lambda one: one.rate) for each in found.values())
        share = max(1 - full.rate / off.rate, 0)
        print(
            f"{number} threads: {full.rate:,.0f} labels a second on the disk ({full.shared:.1f} a commit, commits take "
            f"{full.waited:.0%} of the time, {full.processor:.0f} us of processor time each); without waiting for the "
            f"disk {off.rate:,.0f}: its share is {share:.0%}"
        )


def fill(path: Path, rows: int, texts: list[str], *, answers: bool = False) -> None:
    """Write a journal without its code: labels in the order of time, so that those of one person lie far apart."""
    users = rows // EACH
    Journal(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4000000"):
        connection.execute(f"PRAGMA {pragma}").close()
    begin = time.perf_counter()
    connection.execute("BEGIN")
    people = [digest("", f"u{user}") for user in range(users)]
    counts = (EACH if answers else 0, EACH)
    named = ((person, f"u{user}", user + 1, *counts) for user, person in enumerate(people))
    connection.executemany("INSERT INTO people VALUES (?, '', ?, ?, ?, ?)", named)
    packed, prompt = [pack([text]) for text in texts], pack("")

    def said() -> Iterator[tuple[object, ...]]:
        for row in range(rows):
            about = digest("", f"a{row}") if answers else None
            text, value = packed[(row * 7919 + row // users * 31) % len(packed)], float(row % 3 > 0)
            yield (people[row % users], digest("", f"k{row}"), about, f"k{row}", value, text, prompt, float(row))

    connection.executemany(
        'INSERT INTO labels (person, "row", answer, key, kind, value, texts, prompt, weight, time, hashed)'
        " VALUES (?, ?, ?, ?, 'thumb', ?, ?, ?, 0.5, ?, 0)",
        said(),
    )
    if answers:
        shown, numbers = pack([TEXT] * 8), pack([1 / 7] * 8)
        connection.executemany(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 'best', 'digest', 'own', 500, ?, 0)",
            (
                (digest("", f"a{row}"), people[row % users], f"a{row}", prompt, shown, *[numbers] * 3, float(row))
                for row in range(rows)
            ),
        )
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL").close()
    connection.close()
    size = path.stat().st_size / 1e6
    print(f"{rows:,} labels of {users:,} people written in {time.perf_counter() - begin:.0f} s, {size:,.0f} MB")


def report_reading(path: Path, users: int, rounds: int) -> None:
    """Open a journal and read people, its file in the system's memory and not: the quietest of some rounds."""
    for state in ("not in memory", "in memory"):
        found = []
        for turn in range(rounds):
            if state == "not in memory":
                forget_file(path)
            found.append(read(path, users, turn))
        opened, times, used, standing = min(found, key=lambda one: np.quantile(one[1], 0.95))
        low, high = np.quantile(times, [0.5, 0.95]) * 1e3
        every = np.quantile(np.concatenate([one[1] for one in found]), [0.5, 0.95]) * 1e3
        print(
            f"file {state}: opens in {opened * 1e3:.0f} ms; one person's labels {low:.2f} ms (95 %: {high:.2f}; all "
            f"{rounds} rounds {every[0]:.2f}, {every[1]:.2f}), of which processor {np.median(used) * 1e3:.2f} ms "
            f"(95 %: {np.quantile(used, 0.95) * 1e3:.2f}); whether a person has changed {standing * 1e6:.0f} us"
        )


def read(path: Path, users: int, seed: int) -> tuple[float, list[float], list[float], float]:
    """Seconds to open a journal, to read each of 200 people and of processor for it, and of a standing (processor)."""
    begin = time.perf_counter()
    with Journal(path) as journal:
        opened = time.perf_counter() - begin
        times, used = [], []
        for user in np.random.default_rng(seed).integers(users, size=200):
            begin, processor = time.perf_counter(), time.thread_time()
            assert len(journal.labels_of("", f"u{user}")) >= EACH
            times.append(time.perf_counter() - begin)
            used.append(time.thread_time() - processor)
        begin = time.thread_time()
        for user in range(1000):
            journal.standing("", f"u{user * 7919 % users}")
        return opened, times, used, (time.thread_time() - begin) / 1000


def forget_file(path: Path) -> None:
    """Make the system drop what it keeps of a file in memory."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report_large(path: Path, rows: int, asked: argparse.Namespace, *, answers: bool = False) -> None:
    """A large journal: opened, read, learned into."""
    threads = max(asked.threads)
    if not path.is_file():
        fill(path, rows, [TEXT], answers=answers)
    report_reading(path, rows // EACH, asked.rounds)
    report_page(path, rows)
    if not answers:
        for _ in range(3):
            into = learn(path, threads, 100 * threads, "FULL", rows // EACH)
            print(
                f"learned into it: {into.rate:,.0f} a second, {into.shared:.1f} a commit, commits take "
                f"{into.waited:.0%} of the time"
            )


def report_page(path: Path, rows: int) -> None:
    """Time what the page asks of a large journal: totals, and who said something last."""
    with Journal(path) as journal:
        for name, ask in {
            "totals": lambda: totals(journal, ""),
            "people": lambda: recent_people(journal, "", 50),
        }.items():
            took = []
            for _ in range(5):
                begin = time.thread_time()
                found = ask()
                took.append(time.thread_time() - begin)
            print(f"the page's {name}: {np.median(took) * 1e3:.0f} ms of processor time")
            assert name != "totals" or found[2] >= rows
        begin = time.thread_time()
        counted = sum(journal.counts()["labels"].values())
        print(f"counting {counted:,} labels instead: {time.thread_time() - begin:.1f} s of processor time")


def report_persons(folder: Path, count: int, kinds: list[str]) -> None:
    """Memory of a service that has met people of 50 labels, by kind."""
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghij"), size=5)) for _ in range(300)]
    texts = [" ".join(draw.choice(words, size=8)) for _ in range(600)]
    rows = [(f"k{user}", texts[draw.integers(600)], draw.normal()) for user in range(40) for _ in range(40)]
    fit = Candidates.of([u for u, _, _ in rows], [""] * len(rows), [[t] for _, t, _ in rows], [[y] for _, _, y in rows])
    path = folder / "persons.db"
    fill(path, count * EACH, texts)
    for kind in kinds:
        encoder = load_encoder()
        encoder.encode(texts)
        model = build(kind, encoder=encoder).fit(fit, rng=0)
        with Service(model, path, scale=LabelScale(-1, 1)) as service:
            for user in range(20):
                service.person(f"u{user}")
            gc.collect()
            before, begin = psutil.Process().memory_info().rss, time.perf_counter()
            for user in range(count):
                service.person(f"u{user}")
            took = (time.perf_counter() - begin) / count * 1e3
            gc.collect()
            grown = (psutil.Process().memory_info().rss - before) / 1e6
            kept = service._persons
            print(
                f"{kind}: {count:,} people met, {len(kept):,} kept: the process grew by {grown:.0f} MB "
                f"({kept.bytes / 1e6:.0f} MB counted); {took:.2f} ms to read the labels and make one"
            )


def main() -> None:
    """Print the figures that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--labels", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--persons", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="+", default=["hierarchical", "tastes"])
    parser.add_argument("--journal", type=Path, help="file of 'large', made where it is not there, and left")
    parser.add_argument("--folder", type=Path, default=Path())
    asked = parser.parse_args()
    names = asked.names or ["learn", "large", "about", "persons"]
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place)
        if "learn" in names:
            report_learning(folder, asked.threads, asked.labels, asked.rounds)
        if "large" in names:
            report_large(asked.journal or folder / "large.db", asked.rows, asked)
        if "about" in names:
            report_large(folder / "about.db", asked.rows // 10, asked, answers=True)
        if "persons" in names:
            report_persons(folder, asked.persons, asked.kinds)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"load of the machine at the end: {load}")


if __name__ == "__main__":
    main()
