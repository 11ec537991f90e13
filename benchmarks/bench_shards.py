"""How much memory, processor time and reading shards take: fits in blocks, one user's model, diagnoses of folders.

    python benchmarks/bench_shards.py diagnose [--rows 1000000 10000000] [--candidates 32] [--part 1000000]
    python benchmarks/bench_shards.py fit [--users 10000 100000] [--labels 30] [--features 64] [--kinds pooled ridge]
        [--texts 1000]
    python benchmarks/bench_shards.py read [--users 100000] [--kinds ridge hierarchical] [--asked 200] [--sampled 64]

``fit`` generates labels of people with tastes of their own, deals them out to blocks and fits kinds to them block by
block; with ``--texts`` all rate so many texts (for ``tastes``), else everybody has texts of their own. ``read`` reads
single users of a model of so many generated users, whose files the system has been asked to drop from its memory, or
has them there; with ``--sampled`` only so many of its shards are on the disk, evenly spaced, and users of these are
read (the table of shards is of all users). ``diagnose`` writes folders of Parquet parts with generated candidates and
runs ``bestfor diagnose FOLDER --out PAGE``. What is measured runs in a process of its own, and every figure is of that
process alone: peak resident memory, processor time (what other processes disturb least) and bytes that it asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

QUERIES_PER_USER = 10
LABELS_PER_QUERY = 5
FEATURES = 64
CHUNK = 20_000
"""Users whose labels are generated at a time."""


class Generated:
    """An encoder of texts that are numbers: their features are hashes, uniform with variance 1."""

    name, dim = "generated", FEATURES

    def __init__(self, dim: int = FEATURES) -> None:
        self.dim, self.signature = dim, f"generated-{dim}"

    def encode(self, texts: list[str] | tuple[str, ...]) -> np.ndarray:
        """Vectors of shape (n, dim)."""
        return hashed(np.array(texts, dtype=np.uint64), self.dim)


def hashed(numbers: np.ndarray, dim: int) -> np.ndarray:
    """Uniform numbers of variance 1 by the finaliser of SplitMix64 (Steele, Lea & Flood 2014), shape (n, dim)."""
    with np.errstate(over="ignore"):
        x = (numbers.astype(np.uint64)[:, None] * np.uint64(dim) + np.arange(dim, dtype=np.uint64)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) - np.float32(0.5)) * np.float32(12**0.5)


def used() -> dict[str, float]:
    """Peak megabytes, processor seconds and megabytes read by this process since it began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1024**2 if sys.platform == "darwin" else 1024
    asked = 0.0
    if Path("/proc/self/io").exists():
        asked = int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0]) / 1e6
    return {"mb": usage.ru_maxrss / unit, "cpu": usage.ru_utime + usage.ru_stime, "read": asked}


def alone(name: str, **given: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Run one of the functions of ``INSIDE`` in a process of its own; what it returns, and what it used."""
    command = [sys.executable, __file__, "inside", name, json.dumps(given)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_candidates(folder: Path, rows: int, candidates: int, part: int) -> None:
    """Parts of whole queries with string ids, ten queries a user, one reward; a part that is there is kept."""
    queries = rows // candidates
    each = max(part // candidates, 1)
    folder.mkdir(parents=True, exist_ok=True)
    for number, low in enumerate(range(0, queries, each)):
        path = folder / f"part-{number:05}.parquet"
        if path.exists():
            continue
        query = np.repeat(np.arange(low, min(low + each, queries)), candidates)
        rng = np.random.default_rng([0, number])
        utility = rng.standard_normal(len(query))
        columns = {
            "user": pa.array(query // QUERIES_PER_USER).cast(pa.string()),
            "query": pa.array(query).cast(pa.string()),
            "reward": 0.4 * utility + rng.standard_normal(len(query)),
            "utility": utility,
        }
        pq.write_table(pa.table(columns), folder / f".{path.name}")
        (folder / f".{path.name}").replace(path)


def run_diagnosis(folder: str, page: str) -> dict[str, Any]:
    """Diagnose a folder as the command line does, its page included."""
    from contextlib import redirect_stdout

    from bestfor.__main__ import main as bestfor

    sys.argv = ["bestfor", "diagnose", folder, "--out", page]
    with redirect_stdout(sys.stderr):
        code = bestfor()
    if code:
        raise SystemExit(code)
    return {}


def diagnose(options: argparse.Namespace) -> None:
    """Print what diagnoses of folders take."""
    print("| rows | parts | processor s | MB at most | MB read |\n|---:|---:|---:|---:|---:|")
    spent: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for rows in options.rows:
            folder = Path(place) / f"rows-{rows}"
            write_candidates(folder, rows, options.candidates, options.part)
            found = alone("run_diagnosis", folder=str(folder), page=str(Path(place) / "page.html"))
            spent.append(found["cpu"])
            parts = len(list(folder.glob("part-*")))
            line = f"| {rows:,} | {parts} | {found['cpu']:.1f} | {found['mb']:.0f} | {found['read']:.0f} |"
            print(line, flush=True)
            for path in folder.iterdir():
                path.unlink()
    if len(spent) > 1:
        millions = np.array(options.rows) / 1e6
        slope, start = np.polyfit(millions, spent, 1)
        away = np.abs(np.array(spent) / (start + slope * millions) - 1).max()
        line = f"{start:.1f} s + {slope:.2f} s per million rows"
        print(f"\nline: {line} of processor time; no folder is more than {away:.0%} away from it")


def write_labels(folder: Path, users: int, labels: int, features: int, texts: int | None) -> None:
    """Parts with labels of users whose tastes are shared by a half; rows of one user follow one another.

    Args:
        folder: of the parts.
        users: how many.
        labels: of each.
        features: of a text.
        texts: how many all users rate together, drawn again for each; None gives every label a text of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    everybody = hashed(np.array([1 << 50]), features)[0] / np.sqrt(features)
    for number, low in enumerate(range(0, users, CHUNK)):
        user = np.repeat(np.arange(low, min(low + CHUNK, users)), labels)
        row = np.arange(low * labels, low * labels + len(user))
        query = row // LABELS_PER_QUERY
        rng = np.random.default_rng([1, number])
        text = row
        if texts is not None:
            text = np.concatenate([rng.choice(texts, labels, replace=False) for _ in range(len(row) // labels)])
        own = hashed(user[::labels] + (1 << 51), features) / np.sqrt(features)
        utility = np.empty(len(row))
        for start in range(0, len(row), 1 << 17):
            part = slice(start, start + (1 << 17))
            taste = everybody + own[user[part] - low]
            utility[part] = np.sum(hashed(text[part], features) * taste, axis=1)
        level = 0.5 * rng.standard_normal(len(row) // LABELS_PER_QUERY + 1)
        utility += level[query - query[0]] + rng.standard_normal(len(row))
        named = {name: pa.array(values).cast(pa.string()) for name, values in (("query", query), ("text", text))}
        names = pa.array([f"user-{code:08}" for code in user[::labels].tolist()]).take(pa.array(user - low))
        table = pa.table({"user": names, **named, "utility": utility})
        pq.write_table(table, folder / f"part-{number:05}.parquet")


def run_deal(source: str, folder: str, users: int) -> dict[str, Any]:
    """Deal labels out to blocks."""
    from bestfor.data.blocks import write_blocks
    from bestfor.shards import shard_count

    return {"blocks": write_blocks(Path(source), Path(folder), shard_count(users)).count}


def run_fit(kind: str, labels: str, folder: str, features: int) -> dict[str, Any]:
    """Fit a kind to blocks."""
    from bestfor.data.blocks import LabelBlocks
    from bestfor.rewards import kind_class
    from bestfor.rewards.blocks import fit_blocks

    linear = {"components": features, "whiten": False, "style": False, "answer": False}
    model = kind_class(kind)(None, encoder=Generated(features), **({} if kind == "tastes" else linear))
    fit_blocks(model, LabelBlocks.open(Path(labels)), Path(folder), rng=0)
    return {"size": sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6}


def run_read(folder: str, features: int, asked: int, cold: bool) -> dict[str, Any]:
    """Read single users of a model: milliseconds and bytes of each, the median and the largest."""
    from bestfor.rewards import load

    encoder = Generated(features)
    # modules are imported before the clock runs
    load(Path(folder), encoder=encoder, user=asked_users(folder, 1, 0)[0])
    spent, wall, asked_for, disk = [], [], [], []
    for user in asked_users(folder, asked, 2):
        if cold:
            for path in Path(folder).iterdir():
                with path.open("rb") as handle:
                    os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before, clock, start = io(), time.process_time(), time.perf_counter()
        model = load(Path(folder), encoder=encoder, user=user)
        wall.append(1000 * (time.perf_counter() - start))
        spent.append(1000 * (time.process_time() - clock))
        after = io()
        asked_for.append(after[0] - before[0])
        disk.append(after[1] - before[1])
        assert model.served(user) in ("own", "abstained")
    both = {"cpu_ms": spent, "wall_ms": wall, "rchar": asked_for, "disk": disk}
    return {name: [float(np.median(values)), float(np.max(values))] for name, values in both.items()}


def asked_users(folder: str, asked: int, seed: int) -> list[str]:
    """Draw users of a model, of those whose shards are on the disk."""
    rng, listed = np.random.default_rng(seed), Path(folder).parent / "asked.json"
    if listed.exists():
        return rng.choice(json.loads(listed.read_text()), asked).tolist()
    users = int(json.loads((Path(folder).parent / "users.json").read_text()))
    return [f"user-{code:08}" for code in rng.integers(0, users, asked).tolist()]


def run_serve(folder: str, features: int, asked: int) -> dict[str, Any]:
    """Open a model for everybody, and score a request of each of some users, each for the first time."""
    from bestfor.rewards import load

    start = time.process_time()
    model = load(Path(folder), encoder=Generated(features))
    opened = 1000 * (time.process_time() - start)
    spent = []
    for user in asked_users(folder, asked, 3):
        start = time.process_time()
        model.score(user, "", ["1", "2", "3"])
        spent.append(1000 * (time.process_time() - start))
    return {"opened": opened, "score": [float(np.median(spent)), float(np.max(spent))]}


def io() -> tuple[int, int]:
    """Bytes that this process has asked for by reading, and that came from the disk (pages of mapped files too)."""
    words = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(words["rchar"]), int(words["read_bytes"])


def prepare_labels(place: Path, users: int, options: argparse.Namespace) -> dict[str, Any]:
    """Generate labels and deal them out, unless that was done; what dealing took."""
    place.mkdir(parents=True, exist_ok=True)
    if (place / "users.json").exists():
        return {}
    write_labels(place / "labels", users, options.labels, options.features, getattr(options, "texts", None))
    found = alone("run_deal", source=str(place / "labels"), folder=str(place / "blocks"), users=users)
    for path in (place / "labels").iterdir():
        path.unlink()
    (place / "users.json").write_text(str(users))
    return found


def line_of(users: int, name: str, blocks: Any, found: dict[str, Any]) -> str:  # noqa: ANN401 - a number or nothing
    """A row of the table of fits."""
    size = f"{found['size']:.0f}" if "size" in found else ""
    return f"| {users:,} | {name} | {blocks} | {found['cpu']:.1f} | {found['mb']:.0f} | {found['read']:.0f} | {size} |"


def fit(options: argparse.Namespace) -> None:
    """Print what dealing out and fits take."""
    print("| users | step | blocks | processor s | MB at most | MB read | MB of the model |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    with places(options) as root:
        for users in options.users:
            place = root / (f"users-{users}" if options.texts is None else f"users-{users}-texts-{options.texts}")
            found = prepare_labels(place, users, options)
            if found:
                print(line_of(users, "deal out", found["blocks"], found), flush=True)
            blocks = len(list((place / "blocks").glob("block-*")))
            for kind in options.kinds:
                given = {"labels": str(place / "blocks"), "folder": str(place / kind), "features": options.features}
                print(line_of(users, kind, blocks, alone("run_fit", kind=kind, **given)), flush=True)


def run_states(small: str, folder: str, users: int, sampled: int | None) -> dict[str, Any]:
    """Make a model of so many users from the rows of a small one's, each of them in many users' place.

    Args:
        small: the small model's folder.
        folder: of the model.
        users: how many.
        sampled: shards that are written, evenly spaced; the table lists all. None writes all.
    """
    import hashlib

    from bestfor import artifacts
    from bestfor.shards import ShardEntry, file_of, shard_count, shard_of, table_of, take_rows, write_shard
    from bestfor.weights import is_personal

    whole = artifacts.read(Path(small))
    rows = {name: values for name, values in whole.arrays.items() if is_personal(name)}
    count = shard_count(users)
    written = set(np.linspace(0, count - 1, sampled or count).astype(int).tolist())
    number = np.fromiter((shard_of(f"user-{code:08}", count) for code in range(users)), np.int32, users)
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(count + 1))
    Path(folder).mkdir(parents=True, exist_ok=True)
    entries, asked = [], []
    for shard, (low, high) in enumerate(pairwise(bounds.tolist())):
        if shard not in written:
            entries.append(ShardEntry(hashlib.sha256(f"shard {shard}".encode()).hexdigest(), 0, high - low))
            continue
        codes = order[low:high]
        names = [f"user-{code:08}" for code in codes.tolist()]
        entries.append(write_shard(Path(folder), take_rows(rows, codes % len(whole.users)), names))
        asked += names
    shared = {name: values for name, values in whole.arrays.items() if not is_personal(name)}
    # finish_shards would miss the shards that are not sampled.
    files = {file_of(entry.digest) for entry in entries}
    artifacts._write(Path(folder), whole.config, {**shared, **table_of(entries)}, artifacts.SHARDED, files)
    (Path(folder).parent / "users.json").write_text(str(users))
    if sampled:
        (Path(folder).parent / "asked.json").write_text(json.dumps(asked))
    return {"size": sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6}


SMALL = 2000
"""Users who are fitted for ``read``; their states stand in the place of all others."""


def read(options: argparse.Namespace) -> None:
    """Print what reading one user of a model on disk takes; states are those of 2,000 fitted users."""
    print("| users | kind | MB | files in memory | ms | ms at most | processor ms | kB asked for | kB from disk |")
    print("|---:|---|---:|---|---:|---:|---:|---:|---:|")
    with places(options) as root:
        small = root / f"users-{SMALL}"
        prepare_labels(small, SMALL, options)
        for kind in options.kinds:
            if not (small / kind / "config.json").exists():
                given = {"labels": str(small / "blocks"), "folder": str(small / kind), "features": options.features}
                alone("run_fit", kind=kind, **given)
            for users in options.users:
                part = "" if options.sampled is None else f"-sampled-{options.sampled}"
                folder = root / f"states-{users}{part}" / kind
                if not (folder / "config.json").exists():
                    given = {"folder": str(folder), "users": users, "sampled": options.sampled}
                    alone("run_states", small=str(small / kind), **given)
                read_states(folder, kind, users, options)


def read_states(folder: Path, kind: str, users: int, options: argparse.Namespace) -> None:
    """Print the lines of one model."""
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    given = {"folder": str(folder), "features": options.features, "asked": options.asked}
    for cold in (True, False):
        found = alone("run_read", cold=cold, **given)
        wall = f"{found['wall_ms'][0]:.2f} | {found['wall_ms'][1]:.2f} | {found['cpu_ms'][0]:.2f}"
        sizes = f"{found['rchar'][1] / 1000:.0f} | {found['disk'][1] / 1000:.0f}"
        where = "no" if cold else "yes"
        print(f"| {users:,} | {kind} | {size:.0f} | {where} | {wall} | {sizes} |", flush=True)
    found = alone("run_serve", **given)
    score = f"{found['score'][0]:.2f} ms, {found['score'][1]:.2f} at most"
    print(
        f"\n{kind}, loaded for everybody: {found['opened']:.0f} ms and {found['mb']:.0f} MB at most; "
        f"the first score of each of {options.asked} users: {score} (processor time)\n",
        flush=True,
    )


@contextmanager
def places(options: argparse.Namespace) -> Iterator[Path]:
    """Folder of the benchmark, which stays where it is named."""
    if options.folder is not None:
        yield options.folder
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


INSIDE = {one.__name__: one for one in (run_diagnosis, run_deal, run_fit, run_states, run_read, run_serve)}


def main() -> None:
    """Run one of the benchmarks, or its part in a process of its own."""
    if sys.argv[1:2] == ["inside"]:
        found = INSIDE[sys.argv[2]](**json.loads(sys.argv[3]))
        print(json.dumps({**found, **used()}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("diagnose", help="folders of candidates")
    verb.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    verb.add_argument("--candidates", type=int, default=32)
    verb.add_argument("--part", type=int, default=1_000_000, help="rows of a part")
    verb.add_argument("--folder", type=Path, default=None, help="where the folders are made, for a while")
    verb.set_defaults(run=diagnose)
    for name, run, users in (("fit", fit, [10_000, 100_000]), ("read", read, [100_000])):
        verb = verbs.add_parser(name, help="generated users")
        verb.add_argument("--users", type=int, nargs="+", default=users)
        verb.add_argument("--labels", type=int, default=30)
        verb.add_argument("--features", type=int, default=FEATURES)
        verb.add_argument("--texts", type=int, default=None, help="texts that all users rate; else each their own")
        verb.add_argument("--kinds", nargs="+", default=["pooled", "ridge"] if name == "fit" else ["ridge"])
        verb.add_argument("--sampled", type=int, default=None, help="shards that are on the disk; else all")
        verb.add_argument("--asked", type=int, default=200, help="users that are read")
        verb.add_argument("--folder", type=Path, default=None, help="where labels and models are left for another run")
        verb.set_defaults(run=run)
    options = parser.parse_args()
    print(f"command: python benchmarks/bench_shards.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, {platform.python_version()}")
    options.run(options)


if __name__ == "__main__":
    main()
