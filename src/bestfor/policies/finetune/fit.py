"""Fine-tune a small causal language model to write as users wrote, from scratch or from a checkpoint.

The loss is the mean negative log-likelihood of the users' own texts, each given the user's texts before it. AdamW
(Loshchilov & Hutter 2019), linear warm-up, cosine decay, clipped gradients. The order of batches is derived from the
seed and the epoch, nothing else is random, so a killed training continues to the same weights on one machine, library
version and thread count.

    python -m bestfor.policies.finetune --out DIR --seed 0
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import typer
from rich.console import Console
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from bestfor.data import schema
from bestfor.data.world import INSTRUCTIONS, World, build, build_steady
from bestfor.errors import BestforError, InputError
from bestfor.files import hash_parts
from bestfor.lm.weights import load_weights
from bestfor.policies.finetune.corpus import Corpus, Encoded, conversations, encode, train_tokenizer
from bestfor.policies.finetune.settings import Finetune, Size, plain
from bestfor.policies.finetune.training import Training
from bestfor.policies.prompts import instruction

Kind = Literal["headline", "review", "mixed", "all"]

__all__ = ["Corpus", "Finetune", "Size", "finetune", "main", "world_corpora"]


def world_corpora(
    users: int, seed: int, *, task: Kind = "all", temperature: float = World.temperature, steady: bool = False
) -> list[Corpus]:
    """Build the histories of training users of the embedded world.

    Their seeds start at a million, so they are nobody whom a demo meets.

    Args:
        users: how many.
        seed: another seed, other users.
        task: what they write; ``"all"`` means headlines, reviews and both, as 10 to 5 to 3.
        temperature: how loosely they choose among their drafts; low values make a history say more about its user.
        steady: users who write every text in one mood instead (``build_steady``).
    """
    kinds: tuple[Literal["headline", "review", "mixed"], ...] = ("headline", "review", "mixed")
    shares = dict(zip(kinds, (10, 5, 3), strict=True)) if task == "all" else {task: 1}
    corpora: list[Corpus] = []
    for place, kind in enumerate(kinds):
        if kind in shares:
            size = max(1, users * shares[kind] // sum(shares.values()))
            drawn = 1_000_000 + 10 * seed + place
            world = World(seed=drawn, users=size, task=kind, items=(5, 10), queries=0, temperature=temperature)
            data = build_steady(world) if steady else build(world)
            corpora.append(Corpus(data.histories, INSTRUCTIONS[kind]))
    return corpora


def finetune(
    config: Finetune,
    corpora: Sequence[Corpus],
    *,
    tests: Sequence[Corpus] = (),
    console: Console | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train, or continue a training, and save the checkpoint.

    Args:
        config: how.
        corpora: what on.
        tests: what else is measured beside the held-out users, and not trained on.
        console: where progress is shown; None shows nothing.
        command: what the user typed, for the record.

    Returns:
        The record that is saved as ``training.json``: settings, data signature, versions, loss curve, and the
        record of the checkpoint it started from.

    Raises:
        InputError: the histories are empty, or ``out`` holds a training with other settings or data.
    """
    talks = conversations(corpora, config.items)
    users = sorted({talk.user for talk in talks})
    held = set(users[:: max(2, round(1 / config.held_out))] if config.held_out > 0 and len(users) > 1 else ())
    torch.manual_seed(config.seed)
    tokenizer, model = _start(config, [text for talk in talks for item in talk.items for text in item])
    rows = encode(tokenizer, [talk for talk in talks if talk.user not in held], config.limit)
    watched = [*(talk for talk in talks if talk.user in held), *(conversations(tests, config.items) if tests else ())]
    if not rows:
        raise InputError("histories", f"no conversation of at most {config.limit} tokens", "at least one")
    data = _signature(rows)
    curve = Training(config, model, data).train(rows, encode(tokenizer, watched, config.limit), console)
    record = {"command": command, "settings": plain(config), "data": _described(rows, data)} | {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
        "threads": torch.get_num_threads(),
        "curve": curve,
        "init": _record_of(config.init),
    }
    _save(config.out, model, tokenizer, record)
    return record


def _start(config: Finetune, texts: list[str]) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    if config.init is not None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.init, trust_remote_code=False)
            model = load_weights(AutoModelForCausalLM, config.init, dtype=torch.float32, local_files_only=False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(str(config.init), f"no usable model ({reason})", "a causal language model") from error
        return tokenizer, model
    tokenizer = train_tokenizer(texts, config.size.vocabulary, uncased=config.size.uncased)
    size = config.size
    end, pad = cast(int, tokenizer.eos_token_id), cast(int, tokenizer.pad_token_id)
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.hidden // size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen3ForCausalLM(shape)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return tokenizer, model


def _save(out: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, record: dict[str, Any]) -> None:
    """Save weights rounded to bfloat16, half as large, and declared float32: that is how they are to be run."""
    rounded = {name: weight.detach().to(torch.bfloat16) for name, weight in model.named_parameters()}
    model.save_pretrained(out, state_dict=rounded)
    tokenizer.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def _described(rows: Sequence[Encoded], signature: str) -> dict[str, Any]:
    targets = int(sum(row.target.sum() for row in rows))
    return {"sha256": signature, "conversations": len(rows), "target_tokens": targets}


def _record_of(checkpoint: Path | None) -> dict[str, Any] | None:
    path = checkpoint / "training.json" if checkpoint else None
    return json.loads(path.read_text()) if path and path.is_file() else None


def _signature(rows: Sequence[Encoded]) -> str:
    return hash_parts(repr((row.ids.tolist(), row.target.tolist())).encode() for row in rows)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    seed: Annotated[int, typer.Option(help="Seed of weights, order and, for the world, users.")] = 0,
    users: Annotated[int, typer.Option(help="Training users of the embedded world.")] = 18_000,
    task: Annotated[Kind, typer.Option(help="What they write.")] = "all",
    temperature: Annotated[float, typer.Option(help="How loosely they choose among drafts.")] = World.temperature,
    steady: Annotated[bool, typer.Option(help="Users who write every text in one mood.")] = False,
    histories: Annotated[Path | None, typer.Option(help="Parquet table of histories to train on instead.")] = None,
    kind: Annotated[str, typer.Option(help="Prompt template for --histories: title, headline, generic.")] = "generic",
    init: Annotated[Path | None, typer.Option(help="Checkpoint to start from.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = Finetune.steps,
    tokens: Annotated[int, typer.Option(help="Padded tokens of a batch.")] = Finetune.tokens,
    items: Annotated[int, typer.Option(help="Longest conversation, in items.")] = Finetune.items,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = Finetune.rate,
) -> None:
    """Fine-tune the small policy and save it."""
    console = Console(stderr=True)
    try:
        config = Finetune(out, seed=seed, init=init, steps=steps, tokens=tokens, items=items, rate=rate)
        if histories is None:
            corpora = world_corpora(users, seed, task=task, temperature=temperature, steady=steady)
        else:
            corpora = [Corpus(schema.read(histories, schema.HISTORIES), instruction(kind))]
        finetune(
            config, corpora, console=console, command=" ".join(["python -m bestfor.policies.finetune", *sys.argv[1:]])
        )
    except BestforError as error:
        console.print(str(error), style="red", highlight=False)
        sys.exit(error.exit_code)
