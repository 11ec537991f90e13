"""Compare what two commits write, byte for byte: runs of the demo, of ratings, of histories and of a judge.

    python benchmarks/same_bytes.py [--before REV] [--runs demo,ratings,histories,judged] [--keep FOLDER]

The commit ``--before`` is laid out beside the working tree, both do the same runs one after the other with this
environment, one thread and the same seeds, and every file's SHA-256 is compared. Hashes are compared within one call
and never stored: bytes are promised on one machine only. What may differ on purpose is named in CHANGELOG.md.

Exit code 0 where all files are equal, 1 where some differ.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tomli_w

ROOT = Path(__file__).resolve().parent.parent
BEFORE = "80f4f55"
"""The last commit before the folders were rearranged."""

PORT = 18431
QUICK_LORA = {
    "backbone": "embedded",
    "probe": 4,
    "epochs": 1,
    "user_epochs": 1,
    "warm_up": 1,
    "rank": 2,
    "user_rank": 1,
    "save_every": 5,
}
TOPICS = (
    "night buses",
    "the library",
    "bike lanes",
    "the old mill",
    "school meals",
    "street trees",
    "parking",
    "taxes",
)


def ratings_table() -> str:
    """Twenty people's ratings of forty statements, with tastes that a model can find."""
    draw = random.Random(5)
    lines = ["user,text,rating"]
    likes = {user: {topic: draw.choice((-1, 0, 1)) for topic in TOPICS} for user in range(20)}
    for number in range(40):
        topic = TOPICS[number % len(TOPICS)]
        text = f"We should do {'more' if number % 3 else 'less'} for {topic}, says point {number} of the plan."
        for user in range(20):
            if draw.random() < 0.8:
                vote = likes[user][topic] if draw.random() < 0.8 else draw.choice((-1, 0, 1))
                lines.append(f'p{user},"{text}",{vote}')
    return "\n".join(lines) + "\n"


def ratings_run() -> dict:
    """A ratings run of all kinds that can take part in one."""
    return {
        "name": "ratings",
        "data": {"source": "table", "path": "ratings.csv"},
        "split": {"by": "text", "fold": "all", "min_fit": 5, "min_test": 4},
        "reward": [
            {"kind": "length"},
            {"kind": "pooled"},
            {"kind": "ridge"},
            {"kind": "similarity"},
            {"kind": "point"},
            {"kind": "gaussian"},
            {"kind": "bradley_terry"},
            {"kind": "ensemble"},
            {"kind": "hierarchical"},
            {"kind": "hierarchical", "name": "full", "covariance": "full"},
            {"kind": "tastes"},
            {"kind": "mbr"},
            {"kind": "lora", **QUICK_LORA},
        ],
        "diagnosis": {"n": [1, 2, 4]},
    }


def histories_run() -> dict:
    """A histories run on the embedded world: retrieval, metrics, adapters, and rewards that read the policy."""
    return {
        "name": "histories",
        "data": {"source": "world", "users": 8, "queries": 2},
        "split": {"min_fit": 0, "min_test": 2},
        "policy": {
            "kind": "transformers",
            "model": "embedded",
            "n": 6,
            "fit_n": 4,
            "fit_items": 4,
            "fit_share": 0.5,
            "retriever": "bm25",
            "items": 2,
            "max_new_tokens": 16,
            "adapters": {"rank": 2, "steps": 2},
        },
        "utility": {"metrics": ["taste", "rougeL", "bleu", "chrf"], "primary": "rougeL"},
        "reward": [
            {"kind": "logprob"},
            {"kind": "mbr"},
            {"kind": "pooled"},
            {"kind": "gaussian"},
            {"kind": "hierarchical"},
            {"kind": "lora", "items": 1, **QUICK_LORA},
        ],
        "diagnosis": {"n": [1, 2, 4, 6]},
    }


def judged_run(url: str) -> dict:
    """A ratings run whose rewards come from a judge, once by scores and once by a tournament."""
    judge = {
        "kind": "judge",
        "model": "m",
        "rated": 2,
        "identity": "j",
        "endpoint": {"base_url": url, "concurrency": 1},
    }
    return {
        "name": "judged",
        "data": {"source": "table", "path": "ratings.csv"},
        "split": {"by": "text", "fold": 0, "min_fit": 5, "min_test": 4},
        "reward": [
            {"name": "scores", **judge, "rubrics": 2, "neighbours": 1, "share": 0.3},
            {"name": "compares", **judge, "mode": "tournament"},
            {"kind": "length"},
        ],
        "diagnosis": {"n": [1, 2, 4]},
    }


class Judge(ThreadingHTTPServer):
    """An OpenAI-compatible server on loopback whose answers depend on the request's words alone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", PORT), _Answers)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address; always the same, since run folders hold it."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        told, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
        texts = re.findall(r"<(text|first|second)>\n(.*?)\n</\1>", asked, re.DOTALL)
        number = int(hashlib.sha256(repr(texts).encode()).hexdigest(), 16)
        if "<persona>...</persona>" in told:
            said = "<persona>\nA reader.\n</persona>\n<rubric>\nIs about buses.\n</rubric>"
        elif any(tag == "first" for tag, _ in texts):
            said = str(1 + number % 2)
        else:
            said = str(1 + number % 5)
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 50, "completion_tokens": 2, "total_tokens": 52}
        answer = json.dumps({"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})
        data = json.dumps({**json.loads(answer), "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def lay_out(revision: str, folder: Path) -> Path:
    """The tree of a commit, as files."""
    done = subprocess.run(["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def bestfor(source: Path, place: Path, *arguments: str) -> float:
    """Run the command line of a source tree in a folder; its seconds."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["HF_HUB_OFFLINE"] = "1"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "bestfor", *arguments], cwd=place, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} of {source}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def do_run(name: str, source: Path, place: Path, judge: Judge, demo: tuple[str, str]) -> float:
    """One of the runs, in ``place/name``."""
    place.mkdir(parents=True, exist_ok=True)
    if name == "demo":
        return bestfor(source, place, "demo", "--out", "demo", "--users", demo[0], "--n", demo[1])
    (place / "ratings.csv").write_text(ratings_table(), encoding="utf-8")
    run = {"ratings": ratings_run, "histories": histories_run, "judged": lambda: judged_run(judge.url)}[name]()
    (place / f"{name}.toml").write_text(tomli_w.dumps(run), encoding="utf-8")
    return bestfor(source, place, "run", f"{name}.toml", "--out", name)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file by its path in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare(before: Path, after: Path) -> tuple[int, list[str]]:
    """How many files are equal, and the paths of those that differ or are on one side alone."""
    old, new = hashes(before), hashes(after)
    different = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return len(old.keys() & new.keys()) - sum(path in old and path in new for path in different), different


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="commit to compare the working tree with")
    parser.add_argument("--runs", default="demo,ratings,histories,judged", help="which runs, by comma")
    parser.add_argument("--users", default="60", help="people of the demo")
    parser.add_argument("--n", default="30", help="candidates of the demo")
    parser.add_argument("--keep", type=Path, help="folder that keeps both sides; the first side is not run again")
    given = parser.parse_args()
    judge, failed = Judge(), False
    with tempfile.TemporaryDirectory() as temporary:
        base = (given.keep or Path(temporary)).resolve()
        source = lay_out(given.before, base / "source")
        for name in given.runs.split(","):
            sides = {side: base / side for side in ("before", "after")}
            taken = {}
            for side, tree in (("before", source), ("after", ROOT / "src")):
                place = sides[side] / name
                if side == "before" and (place / name / "diagnosis.json").is_file():
                    continue
                subprocess.run(["rm", "-rf", str(place)], check=True)
                taken[side] = round(do_run(name, tree, place, judge, (given.users, given.n)), 1)
            equal, different = compare(sides["before"] / name / name, sides["after"] / name / name)
            failed |= bool(different)
            seconds = ", ".join(f"{side} {value} s" for side, value in taken.items())
            print(f"{name}: {equal} files equal, {len(different)} differ ({seconds})")
            for path in different:
                print(f"    {path}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
