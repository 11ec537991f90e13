"""Settings of fine-tuning: the shape of a new model, a training, and adapters."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bestfor.errors import InputError
from bestfor.moved import renamed

__getattr__ = renamed(__name__, {"Lora": "LoraSettings"})


@dataclass(frozen=True)
class Size:
    """Shape of a model that starts from scratch (Qwen3 architecture, tied embeddings).

    An uncased model reads and writes lower case only: a word is then the same tokens in a title and in a sentence.
    """

    vocabulary: int = 1536
    hidden: int = 160
    layers: int = 4
    heads: int = 5
    kv_heads: int = 1
    intermediate: int = 384
    positions: int = 1024
    uncased: bool = False


@dataclass(frozen=True)
class Finetune:
    """Settings of a training.

    Attributes:
        out: folder of the finished checkpoint; the state of a training under way is kept in its ``resume`` folder.
        seed: initial weights and order of batches.
        init: a checkpoint to start from, or None for a new model and tokenizer.
        steps: optimiser steps.
        tokens: padded tokens of a batch.
        items: longest conversation, in items.
        limit: longest conversation, in tokens.
        rate: peak learning rate.
        warmup: share of the steps in which the rate rises.
        floor: last learning rate as a share of the peak.
        decay: weight decay of matrices.
        clip: largest norm of the gradient.
        save_every: steps between saved states.
        held_out: share of users whose loss is measured and not trained on.
        context: weight of the tokens of prompts in the loss, where the users' own texts weigh 1; above 0, a model from
            scratch learns the language from everything it reads.
        hide: share of the tokens of prompts that are hidden in a batch (word dropout).
        optimizer: ``"adamw"``, or ``"muon"`` for the matrices between embeddings (Jordan et al. 2024, with updates
            as large as AdamW's, Liu et al. 2025).
        average: decay of the exponential average of the weights, which is what is kept; 0 keeps the last weights.
        precision: ``"bfloat16"`` multiplies matrices in bfloat16; weights stay float32.
        device: a torch name, such as ``"cuda"``; a training continues to the same bytes on one kind of device only.
        until: the training ends after so many steps, its schedule of rates unfinished; called again, it goes on.
        size: shape of a new model.
    """

    out: Path
    seed: int = 0
    init: Path | None = None
    steps: int = 1500
    tokens: int = 4096
    items: int = 5
    limit: int = 512
    rate: float = 3e-3
    warmup: float = 0.04
    floor: float = 0.02
    decay: float = 0.05
    clip: float = 1.0
    save_every: int = 100
    held_out: float = 0.02
    context: float = 0.0
    hide: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    average: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    until: int | None = None
    size: Size = field(default_factory=Size)


def plain(config: Finetune) -> dict[str, Any]:
    """Settings as JSON, without those that do not change what a step does: where it is kept, and where it pauses."""
    settings = asdict(config)
    del settings["out"], settings["until"]
    return {**settings, "init": str(config.init) if config.init else None}


@dataclass(frozen=True)
class LoraSettings:
    """Shape and training of adapters.

    Attributes:
        rank: of the update of a matrix.
        alpha: the update is scaled by alpha / rank.
        targets: last parts of the names of adapted layers.
        steps: optimiser steps of a personal adapter; 0 for the adapter for all alone, a control of personal
            ones.
        shared_steps: of the adapter for all, 0 for none.
        tokens: padded tokens of a batch.
        limit: longest example, in tokens; longer ones are left out.
        rate: peak learning rate (AdamW).
        warmup: share of the steps in which the rate rises.
        floor: last learning rate as a share of the peak.
        clip: largest norm of the gradient.
        seed: first weights and order of batches.
        dtype: of the base, as in :class:`bestfor.policies.transformers.TransformersPolicy`.
        device: likewise.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    steps: int = 20
    shared_steps: int = 0
    tokens: int = 2048
    limit: int = 2048
    rate: float = 1e-3
    warmup: float = 0.1
    floor: float = 0.1
    clip: float = 1.0
    seed: int = 0
    dtype: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("rank", "alpha", "tokens", "limit", "rate", "clip"):
            if getattr(self, name) <= 0:
                raise InputError(f"Lora.{name}", str(getattr(self, name)), "a number above 0")
        for name in ("steps", "shared_steps"):
            if getattr(self, name) < 0:
                raise InputError(f"Lora.{name}", str(getattr(self, name)), "a number from 0 on")
        if not self.steps and not self.shared_steps:
            raise InputError("Lora.steps", "0", "a number above 0, or shared_steps above 0")
        if not self.targets:
            raise InputError("Lora.targets", "none", "names of layers, such as q_proj")
