"""Tokens a second of a real model on this machine: python benchmarks/bench_local.py [--model smollm2] [--queries 4].

Titles of at most 30 tokens behind prompts of 300, n = 30, temperature .7, written in four ways on the same number of
threads: llama.cpp's server (`local:NAME`, its file as it is, 4 bits), this package's policy, transformers' own
``generate(num_return_sequences=n)``, and the same behind a prompt that was read once. Only tokens up to the end token
count. Each way warms up on a prompt that is not counted. The server's processor time is its process's. Prompts are
abstracts of ../shared/data/acl_titles, cut to the same length; without them a text of the shipped world's phrases.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import typer
from transformers import DynamicCache

from bestfor.endpoint import EndpointConfig
from bestfor.endpoint.local import Lease, local_settings
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.policies.transformers import TransformersPolicy

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "acl_titles" / "dev_questions.json"
ASK = "Write a title for this abstract: "
PROMPT, LONGEST, TEMPERATURE = 300, 30, 0.7


@dataclass(frozen=True)
class Spent:
    """Seconds and tokens of some candidates."""

    processor: float
    clock: float
    tokens: int


def asked(policy: TransformersPolicy, count: int) -> list[Prompt]:
    """Prompts of 300 tokens."""
    texts = [str(one["input"]) for one in json.loads(DATA.read_text())] if DATA.is_file() else []
    texts = [text.partition(": ")[2] for text in texts]
    while len(texts) < count or not DATA.is_file():
        texts.append(f"The fair of year {len(texts)} was wet, and the mayor spoke about the new bridge. " * 30)
        if len(texts) >= count:
            break
    tokenizer, found = policy.checkpoint.tokenizer, []
    for number, text in enumerate(texts):
        empty = len(policy.checkpoint.encode([{"role": "user", "content": ASK}]))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= PROMPT - empty:
            cut = tokenizer.decode(ids[: PROMPT - empty])
            found.append(Prompt(f"q{number:03d}", ({"role": "user", "content": ASK + cut},)))
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} texts are long enough")


def ours(policy: TransformersPolicy | OpenAIPolicy, prompts: Sequence[Prompt], n: int) -> int:
    """A policy's own way."""
    return sum(one.tokens for row in policy.sample(prompts, n, seed=0) for one in row)


def generated(policy: TransformersPolicy, prompts: Sequence[Prompt], n: int, shared: bool) -> int:
    """What ``generate`` makes of each prompt, read n times or once."""
    model, tokenizer, total = cast(Any, policy.checkpoint.model), policy.checkpoint.tokenizer, 0
    for prompt in prompts:
        ids = torch.tensor([policy.checkpoint.encode(list(prompt.messages))], device=model.device)
        more: dict[str, Any] = {"num_return_sequences": n}
        given = ids
        with torch.inference_mode():
            if shared:
                cache = DynamicCache(config=model.config)
                model(ids[:, :-1], past_key_values=cache)
                cache.batch_repeat_interleave(n)
                given, more = ids.repeat(n, 1), {"past_key_values": cache}
            written = model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=1.0,
                top_k=0,
                max_new_tokens=LONGEST,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **more,
            )
        fresh = written[:, ids.shape[1] :]
        ended = (fresh == tokenizer.eos_token_id).cumsum(dim=1)
        total += int((ended - (fresh == tokenizer.eos_token_id).long() == 0).sum())
    return total


def measured(work: Callable[[], int], processor: Callable[[], float]) -> Spent:
    """What some work costs."""
    clock, before = time.perf_counter(), processor()
    tokens = work()
    return Spent(processor() - before, time.perf_counter() - clock, tokens)


def of_process(number: int) -> float:
    """Processor seconds of another process of this machine."""
    fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(model: str = "smollm2", n: int = 30, queries: int = 4) -> None:
    """Write every way, then print tokens a second."""
    policy = TransformersPolicy(model, temperature=TEMPERATURE, max_new_tokens=LONGEST)
    prompts = asked(policy, queries + 1)
    warm, rest = prompts[:1], prompts[1:]
    threads, base = torch.get_num_threads(), f"local:{model}?threads={torch.get_num_threads()}"
    lease = Lease(local_settings(base))
    server = OpenAIPolicy(
        model, server=EndpointConfig(base, timeout=600.0), temperature=TEMPERATURE, max_new_tokens=LONGEST
    )
    child = lease.server.process.pid
    torch.manual_seed(0)
    ways: dict[str, tuple[Callable[[Sequence[Prompt]], int], Callable[[], float]]] = {
        "llama.cpp, local:NAME": (lambda some: ours(server, some, n), lambda: of_process(child)),
        "this package's policy": (lambda some: ours(policy, some, n), time.process_time),
        "generate(num_return_sequences=n)": (lambda some: generated(policy, some, n, False), time.process_time),
        "generate, prompt read once": (lambda some: generated(policy, some, n, True), time.process_time),
    }
    print(
        f"{model}: {threads} threads, n = {n}, {len(rest)} prompts of about {PROMPT} tokens, at most {LONGEST} written"
    )
    print("| way | tokens a second, clock | tokens a second of processor time | tokens each |")
    print("|---|---|---|---|")
    for name, (way, processor) in ways.items():
        way(warm)
        cost = measured(lambda way=way: way(rest), processor)
        each = cost.tokens / len(rest) / n
        rates = f"{cost.tokens / cost.clock:.0f} | {cost.tokens / cost.processor:.0f}"
        print(f"| {name} | {rates} | {each:.1f} |", flush=True)
    server.close()
    lease.release()


if __name__ == "__main__":
    typer.run(main)
