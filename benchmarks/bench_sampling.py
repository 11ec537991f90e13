"""Tokens a second of the local policy: python benchmarks/bench_sampling.py [MODEL] [N] [QUERIES].

Prompts are those of an embedded world (four items each); the first chunk warms up and is not counted. Set
OMP_NUM_THREADS to the number of free cores: waiting threads that have no core of their own slow the others down.
"""

from __future__ import annotations

import sys
import time

import torch

from bestfor.data.world import INSTRUCTIONS, World, build
from bestfor.pipeline.asking import Prompting, ask
from bestfor.policies.transformers import TransformersPolicy


def main(model: str = "embedded", n: str = "30", queries: str = "96") -> None:
    """Sample, count, print."""
    policy = TransformersPolicy(model)
    world = build(World(seed=0, users=(int(queries) + policy.chunk + 1) // 2, queries=2))
    prompting = Prompting(INSTRUCTIONS["headline"], items=4, retriever="recency")
    prompts = ask(policy, world.histories, world.queries, 0, prompting).prompts[: int(queries) + policy.chunk]
    policy.sample(prompts[: policy.chunk], int(n), seed=0)
    rest = prompts[policy.chunk :]
    wall, cpu = time.perf_counter(), time.process_time()
    written = policy.sample(rest, int(n), seed=0)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(candidate.tokens for candidates in written for candidate in candidates)
    length = sum(policy.count(list(prompt.messages)) for prompt in rest) / len(rest)
    weights = sum(weight.numel() for weight in policy.checkpoint.model.parameters())
    print(f"{policy.name}: {weights / 1e6:.2f} M weights, {torch.get_num_threads()} threads, n = {n}")
    print(f"{len(rest)} prompts of {length:.0f} tokens, {tokens / len(rest) / int(n):.1f} tokens a candidate")
    print(f"{tokens / wall:.0f} tokens/s by the clock, {tokens / cpu:.0f} tokens/s of processor time")


if __name__ == "__main__":
    main(*sys.argv[1:])
