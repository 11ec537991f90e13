"""Time of importing labels from a file: python benchmarks/bench_import.py [--rows 1000000] [--people 20000].

The file is JSON lines (user, prompt, text, thumb, key, time) as `bestfor journal import JOURNAL FILE --from csv` reads
them, the journal a new SQLite file on the same disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from bestfor.serving.imports import import_files
from bestfor.serving.journal import Journal

WORDS = "of some twelve words that are here to be read by all"


def main() -> None:
    """Write the file, import it, print the time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.jsonl"
        with path.open("w") as out:
            for place in range(given.rows):
                row = {"user": f"u{place % given.people}", "prompt": f"question {place % 5000}", "thumb": place % 2}
                row |= {"text": f"answer number {place} {WORDS}", "key": f"k{place}", "time": 1.7e9 + place}
                out.write(json.dumps(row) + "\n")
        began = time.perf_counter()
        with Journal(Path(folder) / "feedback.db") as journal:
            done = import_files(journal, [path], "csv")
        took = time.perf_counter() - began
        size = sum(one.stat().st_size for one in Path(folder).glob("feedback.db*")) / 2**20
    print(f"{sum(done.labels.values())} labels in {took:.1f} s, {given.rows / took:.0f} a second, {size:.0f} MiB")


if __name__ == "__main__":
    main()
