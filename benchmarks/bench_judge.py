"""What the reward model `judge` adds to a question: python benchmarks/bench_judge.py [QUESTIONS] [CONCURRENCY].

A server in another process answers at once, with the probabilities of 20 tokens. The judge scores candidates, keeping
its answers in a file or in memory, and beside it the official client alone sends requests of the same size: the
difference is the judge's own. Then the same is asked again, of the file alone. Times are processor time of this process
for each question; the best of three rounds that take turns.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import bench_endpoint
from bestfor import rewards
from bestfor.data.candidates import Candidates
from bestfor.policies.base import Prompt
from bestfor.rewards.judge import ANSWERS
from bestfor.rewards.judge.prompts import GENERAL, score_prompt

N = 30
ROUNDS = 3


def scored(n: int) -> bytes:
    """A chat answer that is a score with its alternatives."""
    top = [{"token": str(at), "logprob": -1.0 - at, "bytes": [48 + at]} for at in range(20)]
    logprobs = {"content": [{"token": "4", "logprob": -0.5, "bytes": [52], "top_logprobs": top}]}
    message = {"role": "assistant", "content": "4"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}
    usage = {"prompt_tokens": 400, "completion_tokens": 1, "total_tokens": 401}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


def serve(pipe: Connection) -> None:
    """Serve scores until killed; says its port."""
    bench_endpoint.answer = scored
    bench_endpoint.serve(pipe, bench_endpoint.Instant)


def candidates(count: int, salt: int) -> Candidates:
    """Candidates of about 200 characters, 30 of each user's query."""
    users = count // N
    code = np.arange(users * N)
    return Candidates(
        users=tuple(f"user {at}" for at in range(users)),
        queries=tuple(f"query {at}" for at in range(users)),
        inputs=("words of an abstract " * 20,) * users,
        texts=tuple(f"{salt} {at} " + "words of a candidate " * 10 for at in range(len(code))),
        user=code // N,
        query=code // N,
        text=code,
        candidate=code % N,
        utility=np.zeros(len(code)),
        logprob=np.full(len(code), np.nan),
    )


def judged(url: str, asked: Candidates, concurrency: int, cache: Path | None) -> float:
    """Milliseconds of processor time a question."""
    model = rewards.build("judge", cache=cache, model="m", endpoint={"base_url": url, "concurrency": concurrency})
    # Nobody has a text that a persona could be written from: fitting asks nothing.
    model.fit(asked, rng=0)
    model.predict(candidates(N, -1))
    start = time.process_time()
    estimate = model.predict(asked)
    spent = time.process_time() - start
    assert np.isfinite(estimate.mean).all()
    model.close()  # pyright: ignore[reportAttributeAccessIssue]
    return spent * 1e3 / len(asked)


def plain(url: str, asked: Candidates, concurrency: int) -> float:
    """The official client alone, with the same messages."""
    prompts = [
        Prompt(str(at), tuple(score_prompt(GENERAL, asked.inputs[0], asked.texts[at], (1, 5))))
        for at in range(len(asked))
    ]
    return asyncio.run(bench_endpoint.plainly(url, prompts, 1, 1, concurrency, False)) * 1e3 / len(asked)


def main(questions: str = "1500", concurrency: str = "32") -> None:
    """Measure in turns, and print."""
    count, slots, (ours, theirs) = int(questions), int(concurrency), multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for salt in range(ROUNDS):
            asked, cache = candidates(count, salt), Path(folder) / str(salt)
            found = {
                "client alone": plain(url, asked, slots),
                "judge, in memory": judged(url, asked, slots, None),
                "judge, in a file": judged(url, asked, slots, cache),
                "asked again": judged(url, asked, slots, cache),
            }
            size = (cache / ANSWERS).stat().st_size / count
            best = {name: min(value, best.get(name, value)) for name, value in found.items()}
    server.terminate()
    server.join()
    print(f"{count} questions, concurrency {slots}: ms of processor time a question, {size:.0f} bytes kept of each")
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    print(f"  with a file over the client alone: {best['judge, in a file'] / best['client alone']:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
