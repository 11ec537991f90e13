"""What the policy adds to a candidate: python benchmarks/bench_endpoint.py [CANDIDATES] [CONCURRENCY].

A server in another process answers at once. The policy asks it for n = 30 choices a request, then for one at a time (a
server that does not honour n), and beside it the official client alone makes the very same requests: the difference is
the policy's own. Times are processor time of this process for each candidate; the best of five rounds that take turns.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from bestfor.endpoint import EndpointConfig
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy

N = 30
ROUNDS = 5
TEXT = "A title of some ten words, as long as they are"


class Instant(asyncio.Protocol):
    """Answers chat requests as soon as they are whole."""

    honest = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.held = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self.held += data
        while b"\r\n\r\n" in self.held:
            head, _, rest = self.held.partition(b"\r\n\r\n")
            lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
            length = next(int(value) for name, _, value in lines if name == b"content-length")
            if len(rest) < length:
                return
            self.held = rest[length:]
            body = answer(json.loads(rest[:length]).get("n", 1) if self.honest else 1)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)


class Single(Instant):
    """Gives one choice whatever is asked."""

    honest = False


def answer(n: int) -> bytes:
    """A chat answer with n choices."""
    message = {"role": "assistant", "content": TEXT}
    choices = [{"index": i, "message": message, "finish_reason": "stop", "logprobs": None} for i in range(n)]
    usage = {"prompt_tokens": 700, "completion_tokens": 10 * n, "total_tokens": 700 + 10 * n}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}
    ).encode()


def serve(pipe: Connection, protocol: type[Instant]) -> None:
    """Serve until killed; says its port."""

    async def work() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(work())


def prompts(count: int) -> list[Prompt]:
    """Prompts of about 3 kB: an instruction and four items."""
    turns = tuple(
        {"role": role, "content": "words of an abstract " * 32} for role in ("system", "user", "assistant", "user")
    )
    return [Prompt(f"query {i}", turns) for i in range(count)]


async def plainly(url: str, asked: list[Prompt], n: int, choices: int, concurrency: int, typed: bool) -> float:
    """The official client alone: typed as its documentation shows, or with its untyped ``post`` as the policy does.

    Returns:
        Seconds of processor time of the requests, without making the client.
    """
    import openai

    slots = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

        async def one(prompt: Prompt) -> object:
            body = {"model": "m", "messages": list(prompt.messages), "temperature": 1.0, "max_tokens": 32, "n": choices}
            async with slots:
                if typed:
                    return await client.chat.completions.create(**body)  # pyright: ignore[reportArgumentType, reportCallIssue]
                return await client.post("/chat/completions", cast_to=object, body=body)

        await asyncio.gather(*(one(prompt) for prompt in asked[:4]))
        start = time.process_time()
        await asyncio.gather(*(one(prompt) for prompt in asked for _ in range(n // choices)))
        return time.process_time() - start


def sampled(policy: OpenAIPolicy, asked: list[Prompt]) -> float:
    """Seconds of processor time of the policy."""
    start = time.process_time()
    policy.sample(asked, N, seed=0)
    return time.process_time() - start


def compare(protocol: type[Instant], candidates: int, concurrency: int) -> None:
    """Measure one server, in turns, and print."""
    choices = N if protocol.honest else 1
    asked, (ours, theirs) = prompts(candidates // N), multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, protocol), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    policy = OpenAIPolicy("m", logprobs=False, server=EndpointConfig(base_url=url, concurrency=concurrency))
    ways: dict[str, Callable[[], float]] = {
        "policy": lambda: sampled(policy, asked),
        "client, untyped": lambda: asyncio.run(plainly(url, asked, N, choices, concurrency, False)),
        "client, typed": lambda: asyncio.run(plainly(url, asked, N, choices, concurrency, True)),
    }
    policy.sample(asked[:4], N, seed=0)
    rounds = [{name: work() * 1e3 / (len(asked) * N) for name, work in ways.items()} for _ in range(ROUNDS)]
    best = {name: min(one[name] for one in rounds) for name in ways}
    policy.close()
    server.terminate()
    server.join()
    kind = f"n = {N} in one request" if protocol.honest else "one choice a request"
    own = best["policy"] - best["client, untyped"]
    print(f"{kind}, {len(asked) * N} candidates, concurrency {concurrency}: ms of processor time a candidate")
    print("  " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()))
    print(f"  the policy's own: {own:.3f} ms ({best['policy'] / best['client, typed']:.2f} of the typed client in all)")


def main(candidates: str = "1500", concurrency: str = "32") -> None:
    """Both kinds of servers."""
    for protocol in (Instant, Single):
        compare(protocol, int(candidates), int(concurrency))


if __name__ == "__main__":
    main(*sys.argv[1:])
