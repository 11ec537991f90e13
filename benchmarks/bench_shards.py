"""How much memory, processor time and reading shards take: fits in blocks, one user's model, diagnoses of folders.

    python benchmarks/bench_shards.py diagnose [--rows 1000000 10000000] [--candidates 32] [--part 1000000]

``diagnose`` writes folders of Parquet parts with generated candidates and runs ``bestfor diagnose FOLDER --out PAGE``.
What is measured runs in a process of its own, and every figure is of that process alone: peak resident memory,
processor time (what other processes disturb least) and bytes that it asked the system for.
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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

QUERIES_PER_USER = 10


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


INSIDE = {"run_diagnosis": run_diagnosis}


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
    options = parser.parse_args()
    print(f"command: python benchmarks/bench_shards.py {' '.join(sys.argv[1:])}".rstrip())
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, {platform.python_version()}")
    options.run(options)


if __name__ == "__main__":
    main()
