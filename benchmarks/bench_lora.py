"""What language-model rewards cost, against what was published: python benchmarks/bench_lora.py [--only NAME].

Training of a reward model and of a policy per sample, scores per candidate, and one generation, in milliseconds; then
what reading the prompt of 30 candidates once saves. On a GPU, Qwen2.5-1.5B and Qwen3-4B are built with random weights
in bfloat16 (the published shapes; no checkpoint is needed), adapters of rank 8 on q, k, v and o. Without one, the
shipped model and a tiny random Qwen2 are measured, and the large ones are named as unmeasured. Each work is done once
before it counts, then the median of some repetitions is taken: by the clock on a GPU, of processor time without one.

Utilisation: operations that the model's formula asks for, over time and over the device's peak. A token takes two for
each weight outside the embeddings, and four for each layer, channel of the heads, and token that it sees; the backward
pass through frozen weights takes as many again (twice those of attention). A prompt counts as often as it is read.
"""

from __future__ import annotations

import os
import platform
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import typer

from bestfor import rng
from bestfor.lm.packing import Pack
from bestfor.lm.passes import states_of
from bestfor.policies.adapters import Trainer
from bestfor.policies.finetune.corpus import Encoded
from bestfor.policies.finetune.settings import LoraSettings
from lora_models import (
    LARGE,
    PEAKS,
    RANK,
    SMALL,
    TARGETS,
    Size,
    Subject,
    adapter,
    apart,
    flops,
    head_flops,
    measured_peak,
    packs_of,
    shape_of,
    subject,
    timed,
    work_of,
)

PUBLISHED = {"reward training": 19.0, "policy training": 59.0, "score": 2.3, "generation": 1498.0}
"""Milliseconds a sample, a sample, a candidate, and a text."""


@dataclass(frozen=True)
class Row:
    """A line of the table; milliseconds each, operations each, and bytes at most."""

    subject: str
    what: str
    kind: str
    each: float
    work: float
    memory: int


def scores(subject: Subject, repeats: int) -> Iterator[Row]:
    """One query's candidates with their prompt read once or again and again, and queries of several users."""
    backbone, size = subject.backbone, subject.size
    packs = packs_of(size, size.queries, size.candidates, backbone.model.config.vocab_size)
    worn = [adapter(backbone, seed) for seed in range(size.queries)]
    many = f"{size.queries} users' queries at once"
    for what, some, own in (
        (f"score, N = {size.candidates}, prompt repeated", apart(packs[:1]), worn[:1] * size.candidates),
        (f"score, N = {size.candidates}, prompt once", packs[:1], worn[:1]),
        (f"score, N = {size.candidates}, prompt once, {many}", packs, worn),
    ):
        found, memory = timed(
            lambda some=some, own=own: states_of(backbone, some, own, tokens=size.tokens), repeats, gpu=subject.gpu
        )
        count = sum(len(pack.texts) for pack in some)
        yield Row(subject.name, what, "score", found / count, work_of(subject, some) / count, memory)


def reward_training(subject: Subject, repeats: int) -> Iterator[Row]:
    """Texts behind a prompt together, and each behind its own."""
    size = subject.size
    drawn = packs_of(size, size.packs, size.pack, subject.backbone.model.config.vocab_size)
    for what, packs in ((f"packs of {size.pack} behind a prompt", drawn), ("each behind its prompt", apart(drawn))):
        count = sum(len(pack.texts) for pack in packs)
        found, memory = reward_passes(subject, packs, repeats)
        work = work_of(subject, packs, training=True)
        yield Row(subject.name, f"reward training, {what}", "reward training", found / count, work / count, memory)


def reward_passes(subject: Subject, packs: Sequence[Pack], repeats: int) -> tuple[float, int]:
    """A pass over labelled texts as the reward model takes it: an adapter for all, two heads, one step of AdamW."""
    from bestfor.rewards.lora.attach import attach_adapters
    from bestfor.rewards.lora.config import Config
    from bestfor.rewards.lora.heads import LoraHeads, Standardizer
    from bestfor.rewards.lora.rows import TokenRows
    from bestfor.rewards.lora.training import DeviceLimits, LoraRun, StateSource, TrainingContext, TrainingStage

    backbone, size = subject.backbone, subject.size
    offsets = np.cumsum([0, *(len(pack.texts) for pack in packs)])
    numbered = [replace(pack, rows=offsets[k] + pack.rows, user=0) for k, pack in enumerate(packs)]
    count = int(offsets[-1])
    config = Config(
        level="global", rank=RANK, alpha=2.0 * RANK, targets=TARGETS, warm_up=0, tokens=size.tokens, rows=count
    )
    target, user = rng.derive(0, "targets").standard_normal(count), np.zeros(count, dtype=np.int64)
    queries = tuple(str(place) for place in range(len(packs)))
    rows = TokenRows(tuple(numbered), np.arange(len(packs)), np.arange(count), user, target, queries, True)
    standard = Standardizer.of(np.ones((1, backbone.hidden), dtype=np.float32), backbone.device)
    context = TrainingContext(config, standard, DeviceLimits(size.tokens, backbone.packs, print), 0)
    with attach_adapters(backbone, config) as body:
        learned = StateSource(body.states, body.start("shared", 0), body.training)
        heads = LoraHeads.zero(1, backbone.hidden, backbone.device)
        run = LoraRun(rows, learned, heads, TrainingStage(("shared",), config.rate, count, repeats + 1), context)
        passes = iter(range(repeats + 1))
        return timed(lambda: run.epoch(next(passes)), repeats, gpu=subject.gpu)


def generation(subject: Subject, repeats: int) -> Iterator[Row]:
    """Texts of a fixed number of tokens after a prompt."""
    size, checkpoint = subject.size, subject.checkpoint
    model, prompt = checkpoint.model, list(packs_of(size, 1, 1, 1000)[0].prompt)
    checkpoint.tokenizer.eos_token = None  # no text ends before its last token
    for n in (1, size.candidates):
        noise = rng.derive(0, "noise").random((1, n, size.written))
        found, memory = timed(
            lambda noise=noise: checkpoint.run([prompt], noise, (), temperature=1.0, top_p=1.0),
            repeats,
            gpu=subject.gpu,
        )
        work = flops(model, size.prompt, [size.written] * n) + n * size.written * head_flops(model)
        what = f"generation of {size.written} tokens, {n} at once"
        yield Row(subject.name, what, "generation", found / n, work / n, memory)


def policy_training(subject: Subject, steps: int) -> Iterator[Row]:
    """A user's adapter from its first weights to its file, as the policy is adapted; per text that it learned from."""
    size, checkpoint = subject.size, subject.checkpoint
    length = size.prompt + size.text
    target = np.repeat([0, 1], [size.prompt, size.text])
    draw = rng.derive(0, "texts")
    rows = [Encoded(draw.integers(2, 1000, length), target) for _ in range(size.pack * steps)]
    config = LoraSettings(rank=RANK, alpha=2.0 * RANK, targets=TARGETS, steps=steps, tokens=size.pack * length)
    trainer = Trainer(checkpoint, config, Path(subject.name))
    with tempfile.TemporaryDirectory() as folder:
        calls = iter(range(10))
        found, memory = timed(
            lambda: trainer.personal(Path(folder) / "own.safetensors", "u", rows, str(next(calls))), 2, gpu=subject.gpu
        )
    model = checkpoint.model
    work = flops(model, size.prompt, [size.text], training=True) + 2 * size.text * head_flops(model)
    yield Row(
        subject.name, f"policy training, {size.pack} texts a step", "policy training", found / len(rows), work, memory
    )


def prefix(subject: Subject, prompt: int, text: int, repeats: int) -> str:
    """What reading a prompt once saves, for prompts and texts of some tokens: a line of a table."""
    backbone, size = subject.backbone, replace(subject.size, prompt=prompt, text=text)
    packs = packs_of(size, 1, size.candidates, backbone.model.config.vocab_size)
    rows, none = apart(packs), [{}] * size.candidates

    def at_once() -> None:
        with torch.no_grad():
            backbone.states(backbone.layout(packs))

    ways: list[Callable[[], object]] = [
        lambda: states_of(backbone, rows, none, tokens=size.tokens),
        at_once,
        lambda: states_of(backbone, packs, none, tokens=size.tokens),
    ]
    each = [timed(way, repeats, gpu=subject.gpu)[0] / size.candidates for way in ways]
    shape = f"{subject.name} | {prompt} | {size.candidates} x {text}"
    return f"| {shape} | {each[0]:.2f} | {each[1]:.2f} | {each[2]:.2f} | {each[0] / each[2]:.1f} |"


def line(row: Row, subject: Subject, sheet: float | None) -> str:
    """A row of the table; a small model is not held against what was published for a large one."""
    rate = 1e3 * row.work / row.each
    shares = f"{rate / subject.peak:.1%} | {rate / sheet:.1%}" if sheet else f"{rate / subject.peak:.1%} | -"
    memory = f"{row.memory / 2**30:.1f}" if subject.gpu else "-"
    against = "- | - | -"
    if subject.name in LARGE:
        faster = PUBLISHED[row.kind] / row.each
        against = f"{PUBLISHED[row.kind]:,.1f} | {faster:.1f} | {'yes' if faster >= 2 else 'no'}"
    return f"| {row.subject} | {row.what} | {row.each:.2f} | {against} | {memory} | {shares} |"


def unmeasured(name: str) -> Iterator[str]:
    """Lines of a model that this machine cannot run: what it would take to be twice as fast as published."""
    size, model = Size(), shape_of(LARGE[name])
    texts, head = [size.text] * size.pack, head_flops(model)
    works = {
        "reward training": flops(model, size.prompt, texts, training=True) / size.pack,
        "policy training": flops(model, size.prompt, texts[:1], training=True) + 2 * size.text * head,
        "score": flops(model, size.prompt, [size.text] * size.candidates) / size.candidates,
        "generation": flops(model, size.prompt, [size.written]) + size.written * head,
    }
    for kind, work in works.items():
        share = work / (1e-3 * PUBLISHED[kind] / 2) / PEAKS["H100"]
        need = f"{work / 1e12:.2f} TFLOP: {share:.1%} of an H100 for twice as fast"
        yield f"| {name} | {kind} | unmeasured: no GPU | {PUBLISHED[kind]:,.1f} | - | - | - | - | {need} |"


def main(only: str = "", threads: int = 1, repeats: int = 3) -> None:
    """Measure and print."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(threads)
    peak = measured_peak(device)
    name = torch.cuda.get_device_name() if gpu else f"{platform.machine()} ({threads} of {os.cpu_count()} cores)"
    sheet = next((rate for part, rate in PEAKS.items() if gpu and part in name), None)
    print(f"{name}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}, times: {'clock' if gpu else 'processor'}")
    print(
        f"peak: {peak / 1e12:.3g} TFLOP/s measured" + (f", {sheet / 1e12:.0f} in the data sheet\n" if sheet else "\n")
    )
    print("| model | work | ms | published ms | times faster | at least 2 | GiB | of measured peak | of data sheet |")
    print("|---|---|---:|---:|---:|---|---:|---:|---:|")
    small = Size(prompt=100, text=20, packs=4, queries=4, written=16)
    wanted = {"embedded": None, "tiny Qwen2": SMALL} | (LARGE if gpu else {})
    shapes = [(300, 64), (800, 20), (300, 300)] if gpu else [(100, 20), (800, 20), (100, 200)]
    saved: list[str] = []
    for title, config in wanted.items():
        if only not in title:
            continue
        with subject(title, config, device, Size() if title in LARGE else small, peak) as one:
            for measure in (scores, generation, reward_training, policy_training):
                for row in measure(one, repeats):
                    print(line(row, one, sheet), flush=True)
                if measure is scores:  # before anything is wrapped
                    saved += [prefix(one, prompt, text, repeats) for prompt, text in shapes]
    for title in LARGE if not gpu else ():
        print("\n".join(unmeasured(title)))
    print("\nMilliseconds a candidate, and how many times the prompt read once is faster than repeated:\n")
    print("| model | prompt tokens | texts | repeated | one sequence | as planned | times faster |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    print("\n".join(saved))
    print(f"\nmemory of the process at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    typer.run(main)
