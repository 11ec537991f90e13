"""The training of adapters on one loaded base: one for all, and a personal one that is made new for each user."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from bestfor import rng
from bestfor.errors import InputError
from bestfor.lm.adapters import NOTES, notes_of
from bestfor.lm.checkpoint import Checkpoint
from bestfor.policies.finetune.corpus import Encoded
from bestfor.policies.finetune.settings import Lora
from bestfor.policies.finetune.training import rate_at, schedule, weighted_loss

_OWN, _ALL = "own", "shared"


class Trainer:
    """A base with an adapter for all and a personal one, which is made new for each user."""

    def __init__(self, checkpoint: Checkpoint, config: Lora, folder: Path) -> None:
        self._config, self._model = config, checkpoint.model
        shape = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
            target_modules=list(config.targets),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # peft 0.21 reads a name that transformers 5 has deprecated, and says when it turns a GPT-2 layer's matrix.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out", category=UserWarning)
            try:
                self._wrapped = get_peft_model(self._model, shape, adapter_name=_OWN)
            except ValueError as error:
                found = f"no layers to adapt ({str(error).split('. ')[0]})"
                raise InputError(str(folder), found, f"some of {list(config.targets)}") from error
            self._active = [_OWN]
            if config.shared_steps:
                self._wrapped.add_adapter(_ALL, shape)

    def shared(self, path: Path, rows: Sequence[Encoded], identity: str) -> dict[str, Any]:
        """Train the adapter for all, or read it; personal ones are then trained on top of it."""
        self._active = [_ALL]
        known = notes_of(path)
        if known.get("identity") == identity:
            self._start(_ALL, "")
            self._load(path)
            told = known["told"]
        else:
            told = self._fit(_ALL, "", rows, self._config.shared_steps)
            self._save(path, _ALL, {"identity": identity, "told": told})
            self._load(path)  # as it is on disk, rounded
        self._active = [_ALL, _OWN]
        return told

    def personal(self, path: Path, user: str, rows: Sequence[Encoded], identity: str) -> dict[str, Any]:
        """Train a user's adapter, unless its file is there."""
        known = notes_of(path)
        if known.get("identity") == identity:
            return known["told"]
        told = self._fit(_OWN, user, rows, self._config.steps)
        self._save(path, _OWN, {"identity": identity, "told": told, "user": user})
        return told

    def _fit(self, name: str, user: str, rows: Sequence[Encoded], steps: int) -> dict[str, Any]:
        weights = self._start(name, user)
        optimizer = torch.optim.AdamW(weights, lr=self._config.rate, betas=(0.9, 0.98), weight_decay=0.0)
        losses: list[float] = []
        for step, batch in enumerate(schedule(list(rows), self._config, steps)):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, self._config, steps)
            total, weight = weighted_loss(self._model, batch)
            optimizer.zero_grad(set_to_none=True)
            (total / weight).backward()
            torch.nn.utils.clip_grad_norm_(weights, self._config.clip)
            optimizer.step()
            losses.append(float(total.detach()) / weight)
        return {"examples": len(rows), "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4)}

    def _start(self, name: str, user: str) -> list[torch.nn.Parameter]:
        """First weights of an adapter: A uniform as in a linear layer, B zero; only they are trained."""
        cast(Any, self._wrapped.base_model).set_adapter(self._active)
        self._model.eval()  # a base's dropout would draw from a stream that all users share
        found: list[torch.nn.Parameter] = []
        for place, weights in self._model.named_parameters():
            own = f".{name}." in place
            weights.requires_grad_(own)
            if not own:
                continue
            found.append(weights)
            with torch.no_grad():
                weights.zero_()
                if "lora_A" in place:
                    edge = weights.shape[1] ** -0.5
                    drawn = rng.derive(self._config.seed, "adapter", user, place).uniform(-edge, edge, weights.shape)
                    weights.copy_(torch.from_numpy(drawn))
        return found

    def _save(self, path: Path, name: str, notes: dict[str, Any]) -> None:
        state = get_peft_model_state_dict(self._wrapped, adapter_name=name)
        tensors = {key: tensor.detach().to(torch.bfloat16).contiguous().cpu() for key, tensor in state.items()}
        partial = path.with_name(f".{path.name}.partial")
        # One key: the order of several would differ from process to process.
        save_file(tensors, partial, metadata={NOTES: json.dumps(notes, sort_keys=True)})
        partial.replace(path)

    def _load(self, path: Path) -> None:
        set_peft_model_state_dict(self._wrapped, load_file(path), adapter_name=_ALL)
