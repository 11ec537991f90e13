"""Models to be timed and what they ought to cost, for bench_lora.py: published shapes with random weights."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, Qwen2Config, Qwen3Config

from bestfor import rng
from bestfor.lm.adapters import Pair
from bestfor.lm.checkpoint import Checkpoint
from bestfor.lm.location import locate
from bestfor.lm.packing import Pack
from bestfor.lm.states import Backbone

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
RANK = 8
WHOLE: dict[str, Any] = {"vocab_size": 151_936, "tie_word_embeddings": True, "rope_theta": 1e6, "rms_norm_eps": 1e-6}
LARGE = {
    "Qwen2.5-1.5B": Qwen2Config(
        **WHOLE,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=131_072,
    ),
    "Qwen3-4B": Qwen3Config(
        **WHOLE,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
    ),
}
SMALL = Qwen2Config(
    vocab_size=1536,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    tie_word_embeddings=True,
)
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations a second in the makers' data sheets, by part of the device's name."""


@dataclass(frozen=True)
class Size:
    """Tokens and counts of what is measured."""

    prompt: int = 300
    text: int = 64
    pack: int = 8
    packs: int = 8
    candidates: int = 30
    queries: int = 8
    written: int = 128
    tokens: int = 16_384


@dataclass(frozen=True)
class Subject:
    """A model with the two faces that rewards and policies know it by."""

    name: str
    backbone: Backbone
    checkpoint: Checkpoint
    size: Size
    peak: float

    @property
    def gpu(self) -> bool:
        """Whether time is that of the clock, and memory is known."""
        return self.backbone.device.type == "cuda"


def flops(model: PreTrainedModel, prompt: int, texts: Sequence[int], *, training: bool = False) -> float:
    """Operations for some texts behind a prompt that is read once."""
    shape = model.config.get_text_config()
    embedded = sum(weight.numel() for weight in cast(Any, model).get_input_embeddings().parameters())
    weights = sum(w.numel() for name, w in model.named_parameters() if ".lora_" not in name) - embedded
    heads = shape.num_attention_heads
    channels = shape.num_hidden_layers * heads * (getattr(shape, "head_dim", None) or shape.hidden_size // heads)
    tokens = prompt + sum(texts)
    seen = prompt * (prompt + 1) / 2 + sum(t * prompt + t * (t + 1) / 2 for t in texts)
    forward, attention = 2.0 * weights * tokens, 4.0 * channels * seen
    return 2 * forward + 3 * attention if training else forward + attention


def timed(work: Callable[[], object], repeats: int, *, gpu: bool) -> tuple[float, int]:
    """Milliseconds, and bytes of a GPU's memory at most."""
    work()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    found: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter() if gpu else time.process_time()
        work()
        if gpu:
            torch.cuda.synchronize()
        found.append(1e3 * ((time.perf_counter() if gpu else time.process_time()) - start))
    return statistics.median(found), torch.cuda.max_memory_allocated() if gpu else 0


def measured_peak(device: torch.device) -> float:
    """Operations a second of a large multiplication of matrices."""
    edge, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    left, right = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    best = min(timed(lambda: left @ right, 3, gpu=device.type == "cuda")[0] for _ in range(3))
    return 2e3 * edge**3 / best


@contextmanager
def subject(
    name: str, config: PreTrainedConfig | None, device: torch.device, size: Size, peak: float
) -> Iterator[Subject]:
    """A model: random weights of a configuration, or the shipped one where there is none."""
    if config is None:
        shipped = Checkpoint(locate("embedded"), device=str(device))
        cast(Any, shipped.model).generation_config.eos_token_id = None
        yield Subject(name, Backbone("embedded", device=str(device)), shipped, size, peak)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for path in locate("embedded").iterdir():
            if "token" in path.name or "template" in path.name:
                shutil.copy(path, folder)
        config.save_pretrained(folder)
        torch.manual_seed(0)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        with torch.device(device):
            model = cast(Any, AutoModelForCausalLM).from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
        model.generation_config.eos_token_id = None
        backbone, checkpoint = Backbone(str(folder), device=str(device)), Checkpoint(folder, device=str(device))
        # random weights need no files
        backbone.__dict__["model"], checkpoint.__dict__["model"] = model.model, model
        yield Subject(name, backbone, checkpoint, size, peak)


def packs_of(size: Size, count: int, texts: int, vocabulary: int) -> list[Pack]:
    """Random tokens; lengths of texts vary by a quarter."""
    draw = rng.derive(0, "tokens")

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(draw.integers(2, vocabulary, length).tolist())

    def lengths() -> list[int]:
        return draw.integers(size.text * 3 // 4, size.text * 5 // 4 + 1, texts).tolist()

    return [Pack(tokens(size.prompt), tuple(tokens(n) for n in lengths()), np.arange(texts)) for _ in range(count)]


def apart(packs: Sequence[Pack]) -> list[Pack]:
    """Every text behind a prompt of its own."""
    return [Pack(pack.prompt, (text,), np.arange(1)) for pack in packs for text in pack.texts]


def adapter(backbone: Backbone, seed: int) -> dict[str, Pair]:
    """A user's update of q, k, v and o."""
    draw = torch.Generator(device=backbone.device).manual_seed(seed)
    found: dict[str, Pair] = {}
    for name, module in backbone.model.named_modules():
        if name.rpartition(".")[2] in TARGETS:
            out, into = cast(torch.Tensor, module.weight).shape
            down, up = (
                torch.randn(shape, generator=draw, device=backbone.device) * 0.01
                for shape in ((RANK, into), (out, RANK))
            )
            found[name] = (down, up)
    return found


def work_of(subject: Subject, packs: Sequence[Pack], *, training: bool = False) -> float:
    """Operations for some packs."""
    model = subject.backbone.model
    return sum(flops(model, len(pack.prompt), [len(text) for text in pack.texts], training=training) for pack in packs)


def shape_of(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of names and shapes alone."""
    with torch.device("meta"):
        return cast(Any, AutoModelForCausalLM).from_config(config)


def head_flops(model: PreTrainedModel) -> float:
    """Operations for the probabilities of one token."""
    return 2.0 * cast(Any, model).get_output_embeddings().weight.numel()
