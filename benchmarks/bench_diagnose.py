"""How long a whole diagnosis of a table takes, report page included, and how much memory, as tables grow.

    python benchmarks/bench_diagnose.py [--rows 1000000 3200000 10000000] [--candidates 32] [--scattered]

Each table is diagnosed by ``bestfor diagnose`` in a process of its own, whose peak memory and processor time the system
reports: processor time is what other processes disturb least. Below stands the line through the processor times.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 1_000_000
QUERIES_PER_USER = 10


def write_table(path: Path, rows: int, candidates: int, scattered: bool) -> None:
    """A Parquet file with string ids; queries follow one another, or candidate follows candidate of all queries."""
    rng = np.random.default_rng(0)
    queries = rows // candidates
    writer = None
    for low in range(0, queries * candidates, CHUNK):
        place = np.arange(low, min(low + CHUNK, queries * candidates))
        query = place % queries if scattered else place // candidates
        utility = rng.standard_normal(len(place))
        table = pa.table(
            {
                "user": pa.array(query // QUERIES_PER_USER).cast(pa.string()),
                "query": pa.array(query).cast(pa.string()),
                "reward": 0.4 * utility + rng.standard_normal(len(place)),
                "utility": utility,
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def measure(path: Path, page: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak megabytes of one ``bestfor diagnose`` with its report."""
    command = [sys.executable, "-m", "bestfor", "diagnose", str(path), "--out", str(page)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_200_000, 10_000_000])
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--scattered", action="store_true", help="rows of a query far apart: through temporary files")
    options = parser.parse_args()
    print(f"command: python benchmarks/bench_diagnose.py {' '.join(sys.argv[1:])}".rstrip())
    system = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    print(f"machine: {os.cpu_count()} cores, {system}")
    print("| rows | queries | s | processor s | MB at most |\n|---:|---:|---:|---:|---:|")
    spent: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            path = Path(folder) / "scores.parquet"
            write_table(path, rows, options.candidates, options.scattered)
            seconds, processor, megabytes = measure(path, Path(folder) / "report.html")
            spent.append(processor)
            print(f"| {rows:,} | {rows // options.candidates:,} | {seconds:.1f} | {processor:.1f} | {megabytes:.0f} |")
    if len(spent) > 1:
        millions = np.array(options.rows) / 1e6
        slope, start = np.polyfit(millions, spent, 1)
        away = np.abs(np.array(spent) / (start + slope * millions) - 1).max()
        line = f"{start:.1f} s + {slope:.2f} s per million rows"
        print(f"\nline: {line} of processor time; no table is more than {away:.0%} away from it")


if __name__ == "__main__":
    main()
