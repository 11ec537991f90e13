"""What n samples of one prompt cost: python benchmarks/bench_sampling.py [--model MODEL] [--n 30] [--queries 16].

Four ways to write the same number of candidates with the same model, threads and settings, in one process: this
policy, n calls of it for one candidate each, transformers' own batched ``generate`` for the same chunks of prompts, and
``generate`` prompt by prompt. Each warms up on a chunk that is not counted; time is the processor's (and the
clock's, which others on the machine slow down), per candidate. Prompts are those of an embedded world, four items each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import typer

from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.policies.base import Prompt
from bestfor.policies.transformers import TransformersPolicy
from bestfor.runs.prompts import Prompting, build_prompts


@dataclass(frozen=True)
class Cost:
    """Seconds and tokens of some candidates."""

    processor: float
    clock: float
    tokens: int


def timed(work: Callable[[], int]) -> Cost:
    """What a piece of work costs; it returns the tokens that it wrote."""
    clock, processor = time.perf_counter(), time.process_time()
    tokens = work()
    return Cost(time.process_time() - processor, time.perf_counter() - clock, tokens)


def ours(policy: TransformersPolicy, prompts: Sequence[Prompt], n: int) -> int:
    """All candidates of a prompt in one call."""
    written = policy.sample(prompts, n, seed=0)
    return sum(one.tokens for row in written for one in row)


def one_by_one(policy: TransformersPolicy, prompts: Sequence[Prompt], n: int) -> int:
    """As a server without ``n`` would be asked: a call for each candidate."""
    calls = (policy.sample([prompt], 1, seed=index) for prompt in prompts for index in range(n))
    return sum(call[0][0].tokens for call in calls)


def generated(policy: TransformersPolicy, prompts: Sequence[Prompt], n: int, chunk: int) -> int:
    """What transformers' ``generate`` makes of the same prompts."""
    model, tokenizer = cast(Any, policy.checkpoint.model), policy.checkpoint.tokenizer
    end, total = tokenizer.eos_token_id, 0
    for start in range(0, len(prompts), chunk):
        ids = [policy.checkpoint.encode(list(prompt.messages)) for prompt in prompts[start : start + chunk]]
        batch = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt").to(model.device)
        with torch.inference_mode():
            written = model.generate(
                **batch,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                num_return_sequences=n,
                max_new_tokens=policy.max_new_tokens,
                eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )
        fresh = written[:, batch["input_ids"].shape[1] :]
        ended = (fresh == end).cumsum(dim=1)
        total += int((ended - (fresh == end).long() == 0).sum())
    return total


def main(model: str = "embedded", n: int = 30, queries: int = 16) -> None:
    """Sample every way, then print costs and ratios."""
    policy = TransformersPolicy(model)
    world = build(World(seed=0, users=(queries + policy.chunk + 1) // 2, queries=2))
    prompting = Prompting(INSTRUCTIONS["headline"], items=4, retriever="recency")
    prompts = build_prompts(policy, world.histories, world.queries, 0, prompting).prompts[: queries + policy.chunk]
    warm, rest = prompts[: policy.chunk], prompts[policy.chunk :]
    few = rest[: max(1, len(rest) // 8)]
    torch.manual_seed(0)
    ways: dict[str, tuple[Callable[[Sequence[Prompt]], int], Sequence[Prompt]]] = {
        "this policy": (lambda asked: ours(policy, asked, n), rest),
        f"{n} calls a prompt": (lambda asked: one_by_one(policy, asked, n), few),
        f"generate, {policy.chunk} prompts": (lambda asked: generated(policy, asked, n, policy.chunk), rest),
        "generate, prompt by prompt": (lambda asked: generated(policy, asked, n, 1), rest),
    }
    weights = sum(weight.numel() for weight in policy.checkpoint.model.parameters())
    length = sum(policy.count(list(prompt.messages)) for prompt in rest) / len(rest)
    print(f"{policy.name}: {weights / 1e6:.2f} M weights, {torch.get_num_threads()} threads, n = {n}")
    print(f"{len(rest)} prompts of {length:.0f} tokens")
    base = 0.0
    for name, (way, asked) in ways.items():
        way(warm[:1])
        cost = timed(lambda way=way, asked=asked: way(asked))
        each = 1e3 * cost.processor / (len(asked) * n)
        base = base or each
        print(
            f"{name:28s} {each:7.2f} ms a candidate ({1e3 * cost.clock / (len(asked) * n):.2f} by the clock), "
            f"{cost.tokens / len(asked) / n:.1f} tokens each, {cost.tokens / cost.processor:.0f} tokens/s, "
            f"{each / base:.2f} times this policy's"
        )


if __name__ == "__main__":
    typer.run(main)
