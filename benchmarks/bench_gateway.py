"""Time of the gateway: a client's wait and requests a second, beside the upstream alone.

    python benchmarks/bench_gateway.py [--seconds 5] [--features style|static|minilm] [--slow 0.2] [--grow MINUTES]
        [--peer its-iaas]

The upstream answers at once with eight texts, prepared beforehand (with --slow after so many seconds). The gateway is a
process of its own, pinned to one core; clients and upstream share this process, on the others. Rewards are those of
`hierarchical`, fitted on 24 people: of the texts' surface (`style`, no torch), of MiniLM's table of token vectors as
well (`static`, no torch), or of its embeddings (`minilm`: texts are embedded once, so this states the cost of the
model, not of the encoder). Every answer is in the journal before it is sent. Printed: p50 and p95 of one client,
requests a second of one and of eight, the same of the upstream alone, processor time of a request, start-up and memory;
with --grow memory alone, while eight people ask and comment for so many minutes. Ratios hold on other machines; on a
busy one absolute times do not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
from aiohttp import ClientSession, TCPConnector

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.rewards import build

WORDS = "the council approves a bridge over river in rain market lantern orchard frost opens closes".split(" ")  # noqa: SIM905
BODY = {"model": "m", "messages": [{"role": "user", "content": "Write a headline."}]}
HOST = "127.0.0.1"
CORE = max(os.sched_getaffinity(0))
"""Core of the gateway; clients and upstream have the others."""


def texts(count: int, *names: str | int) -> list[str]:
    """Make texts of five to fifteen words."""
    draw = rng.derive(0, "texts", *names)
    return [" ".join(draw.choice(WORDS, draw.integers(5, 16))) for _ in range(count)]


def fit(folder: Path, features: str) -> None:
    """Fit people of whom each likes short or long texts, and save the model."""
    users = [f"u{place}" for place in range(24)]
    written = [texts(12, user) for user in users]
    utilities = [[len(text) / 60 * (1 if place % 2 else -1) for text in each] for place, each in enumerate(written)]
    encoder = "static:all-MiniLM-L6-v2" if features == "static" else "all-MiniLM-L6-v2"
    model = build("hierarchical", components=0 if features == "style" else 32, encoder=encoder)
    model.fit(Candidates.of(users, [""] * len(users), written, utilities), rng=0)
    model.save(folder)


class Instant(asyncio.Protocol):
    """An upstream that answers every whole request with the same bytes, now or later."""

    answer = b""
    wait = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport, self.seen, self.wanted = transport, b"", -1

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self.seen += data
        head = self.seen.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self.seen[:head].lower()
        at = lower.find(b"content-length:")
        length = 0 if at < 0 else int(lower[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.seen) < head + 4 + length:
            return
        self.seen = b""
        if self.wait:
            asyncio.get_running_loop().call_later(self.wait, self.transport.write, self.answer)
        else:
            self.transport.write(self.answer)


def reply(count: int) -> bytes:
    """Write the upstream's answer of so many candidates."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
        for place, text in enumerate(texts(count, "candidates"))
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 80, "total_tokens": 90}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


async def client(port: int, until: float, waits: list[float], who: int) -> None:
    """Ask again and again on one connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    body = json.dumps({**BODY, "user": f"u{who}"}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise SystemExit(f"the gateway answered {answer.splitlines()[0]!r}")
        at = answer.lower().find(b"content-length:")
        await reader.readexactly(int(answer[at + 15 :].split(b"\r\n", 1)[0]))
        waits.append(time.perf_counter() - began)
    writer.close()


async def first_byte(port: int) -> float:
    """Milliseconds until the first byte of a stream."""
    reader, writer = await asyncio.open_connection(HOST, port)
    body = json.dumps({**BODY, "user": "u1", "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await reader.readuntil(b": sampling")
    took = time.perf_counter() - began
    writer.close()
    return 1000 * took


async def load(port: int, clients: int, seconds: float) -> tuple[float, float, float]:
    """Median and 95 % quantile of a client's wait in ms, and requests a second."""
    waits: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(client(port, began + seconds, waits, who) for who in range(clients)))
    took = time.perf_counter() - began
    p50, p95 = np.quantile(waits, [0.5, 0.95]) * 1000
    return float(p50), float(p95), len(waits) / took


def start(folder: Path, model: Path, upstream: int) -> tuple[subprocess.Popen[bytes], int, float]:
    """Start a gateway on the last core; gives its port and the seconds until it answered."""
    port = free_port()
    words = [sys.executable, "-m", "bestfor", "serve", str(model), "--upstream", f"http://{HOST}:{upstream}/v1"]
    words += ["--port", str(port), "--journal", str(folder / "feedback.db"), "--keys", str(folder / "keys.json")]
    began = time.perf_counter()
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {CORE}))
    while True:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=5).read()
            return process, port, time.perf_counter() - began
        except OSError:
            time.sleep(0.02)


def start_peer(program: str, upstream: int) -> tuple[subprocess.Popen[bytes], int, float]:
    """Start the service of its_hub on the last core, by votes over eight candidates; gives what :func:`start` does."""
    port = free_port()
    words = [program, "--port", str(port), "--log-level", "ERROR"]
    said = {"endpoint": f"http://{HOST}:{upstream}/v1", "api_key": "none", "model": "m", "budget": 8}
    body = json.dumps({**said, "alg": "self-consistency", "regex_patterns": ["(.*)"]}).encode()
    asked = urllib.request.Request(f"http://{HOST}:{port}/configure", body, {"Content-Type": "application/json"})
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, preexec_fn=lambda: os.sched_setaffinity(0, {CORE}), **quiet)
    while True:
        try:
            urllib.request.urlopen(asked, timeout=20).read()
            return process, port, time.perf_counter() - began
        except OSError:
            time.sleep(0.02)


def free_port() -> int:
    """Find a port that nobody listens on."""
    import socket

    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


async def say(port: int, until: float, who: int, counts: list[int]) -> None:
    """Ask and give a thumb on the answer, again and again, each time as another of 300 people."""
    # A connection each: one that is kept is closed where this machine stands still for a while.
    async with ClientSession(f"http://{HOST}:{port}", connector=TCPConnector(force_close=True)) as session:
        number = who
        while time.perf_counter() < until:
            user, number = f"p{number % 300}", number + 7
            async with session.post("/v1/chat/completions", json={**BODY, "user": user}) as answer:
                id = (await answer.json())["bestfor"]["answer_id"]
            if number % 8 == 0:
                said = {"answer_id": id, "kind": "comment", "text": f"about {number}"}
                async with session.post("/v1/feedback", json=said) as answer:
                    await answer.read()
            counts[0] += 1


async def grow(folder: Path, model: Path, minutes: float) -> None:
    """Print the gateway's memory twice a minute under the load of eight people who ask and say something."""
    loop = asyncio.get_running_loop()
    Instant.answer = reply(8)
    server = await loop.create_server(Instant, HOST, 0)
    process, port, _ = await loop.run_in_executor(None, start, folder, model, server.sockets[0].getsockname()[1])
    known, counts = psutil.Process(process.pid), [0]
    until = time.perf_counter() + 60 * minutes
    people = [asyncio.create_task(say(port, until, who, counts)) for who in range(8)]
    try:
        while not all(one.done() for one in people):
            print(
                f"{counts[0]} answers, {known.memory_info().rss / 2**20:.1f} MiB, {known.num_fds()} files", flush=True
            )
            await asyncio.wait(people, timeout=30)
        await asyncio.gather(*people)
    finally:
        process.terminate()
        process.wait()


async def measure(folder: Path, model: Path, given: argparse.Namespace) -> None:
    """Measure all and print it."""
    loop, seconds, slow = asyncio.get_running_loop(), given.seconds, given.slow
    Instant.answer = reply(1 if given.peer else 8)
    server = await loop.create_server(Instant, HOST, 0)
    upstream = server.sockets[0].getsockname()[1]
    alone = [await load(upstream, clients, seconds / 2) for clients in (1, 8)]
    how = (start_peer, given.peer, upstream) if given.peer else (start, folder, model, upstream)
    process, port, took = await loop.run_in_executor(None, *how)
    known = psutil.Process(process.pid)
    try:
        await load(port, 8, 1.0)
        before, spent = known.memory_info().rss, sum(known.cpu_times()[:2])
        found = [await load(port, clients, seconds) for clients in (1, 8)]
        spent = (sum(known.cpu_times()[:2]) - spent) / sum(seconds * one[2] for one in found)
        after = known.memory_info().rss
        torch = any("libtorch" in one.path for one in known.memory_maps())
        Instant.wait = slow
        slowly = await load(upstream, 1, seconds), await load(port, 1, seconds)
        first = [np.nan] if given.peer else [await first_byte(port) for _ in range(20)]
    finally:
        process.terminate()
        process.wait()
    print("| | p50 at 1 client | p95 | requests/s at 1 | requests/s at 8 |")
    print("|---|---|---|---|---|")
    for name, (one, eight) in (("upstream alone", alone), ("gateway", found)):
        print(f"| {name} | {one[0]:.2f} ms | {one[1]:.2f} ms | {one[2]:.0f} | {eight[2]:.0f} |")
    for name, waited in zip((f"upstream of {1000 * slow:.0f} ms alone", "gateway before it"), slowly, strict=True):
        print(f"| {name} | {waited[0]:.1f} ms | {waited[1]:.1f} ms | {waited[2]:.1f} | |")
    print(f"first byte of a stream, {1000 * slow:.0f} ms upstream: {np.median(first):.1f} ms (median of 20)")
    print(f"processor time of a request: {1000 * spent:.2f} ms")
    print(f"ratio of requests a second at 8 to the upstream alone: {found[1][2] / alone[1][2]:.3f}")
    loaded = "torch loaded" if torch else "torch not loaded"
    memory = f"{after / 2**20:.0f} MiB ({(after - before) / 2**20:+.1f} while measured; {loaded})"
    print(f"start-up {took:.2f} s, memory {memory}")


def main() -> None:
    """Read the options, fit and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--features", choices=("style", "static", "minilm"), default="style")
    parser.add_argument("--slow", type=float, default=0.2)
    parser.add_argument("--peer", default="", metavar="its-iaas", help="its_hub's service instead of the gateway")
    parser.add_argument("--grow", type=float, default=0.0, metavar="MINUTES")
    given = parser.parse_args()
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {CORE} or {CORE})
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(folder / "model", given.features)
        if given.grow:
            asyncio.run(grow(folder, folder / "model", given.grow))
        else:
            asyncio.run(measure(folder, folder / "model", given))


if __name__ == "__main__":
    main()
