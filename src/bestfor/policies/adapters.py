"""Train a LoRA adapter (Hu et al. 2022) for each user on one base model, each apart from everybody else's.

The base is loaded once and never changed. Every user's adapter starts from weights drawn from (seed, user), has its own
optimiser, and sees the user's own examples only, so it is the same whoever was trained before, or not at all; the
loss is that of :mod:`bestfor.policies.finetune`. Where ``shared_steps`` is above 0, an adapter for all is trained on
everybody's examples first, and personal ones on top of it; with ``steps = 0`` it stands alone.

On disk: ``adapters.json`` (base, settings, users), one safetensors file for each user with peft's names of tensors,
and ``shared.safetensors``. A training that was killed keeps the files that are whole and goes on with the next user.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from safetensors.torch import load_file, save_file

from bestfor import rng
from bestfor.errors import InputError
from bestfor.files import hash_parts, sweep, write_json, write_text, writing
from bestfor.lm.adapter_files import DOWN, INDEX, NOTES, PREFIX, SHARED, UP, AdapterFolder, file_of, notes_of
from bestfor.lm.chat import Message
from bestfor.lm.checkpoint import Checkpoint
from bestfor.lm.location import fingerprint, locate
from bestfor.local_models import GGUF_SUFFIX
from bestfor.moved import renamed
from bestfor.policies.finetune.corpus import Encoded
from bestfor.policies.finetune.settings import LoraSettings
from bestfor.policies.finetune.training import rate_at, schedule, weighted_loss
from bestfor.policies.openai.adapters import USERS
from bestfor.progress import Progress

__all__ = ["Example", "LoraSettings", "Trainer", "encode_examples", "export", "export_gguf", "train_adapters"]
__getattr__ = renamed(__name__, {"Lora": "LoraSettings"})

_OWN, _ALL = "own", "shared"


@dataclass(frozen=True)
class Example:
    """Text of a user with the chat by which the policy would be asked for it.

    Attributes:
        messages: the chat.
        output: what the user wrote.
    """

    messages: tuple[Message, ...]
    output: str


def train_adapters(
    base: str | Path,
    examples: Mapping[str, Sequence[Example]],
    out: Path,
    config: LoraSettings | None = None,
    *,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train an adapter for each user, or those that are not there yet.

    Args:
        base: a checkpoint's folder, ``"embedded"`` or a hub name.
        examples: each user's texts; users without any get no adapter.
        out: folder of the adapters.
        config: how.
        console: where progress is shown; None shows nothing.

    Returns:
        What ``adapters.json`` holds: base, settings, versions, and for each user the file, the number of examples and
        the mean loss per token before and after; of a user without personal ``steps`` the number of examples alone.

    Raises:
        InputError: the checkpoint is not there, has no layers of these names, or nobody has an example that fits.
    """
    config = config or LoraSettings()
    folder = locate(base)
    checkpoint = Checkpoint(folder, dtype=config.dtype, device=config.device)
    rows = {user: encode_examples(checkpoint, examples[user], config.limit) for user in sorted(examples)}
    rows = {user: found for user, found in rows.items() if found}
    if not rows:
        raise InputError("adapters", f"no example of at most {config.limit} tokens", "at least one")
    base_print = fingerprint(folder)
    common = {"base": base_print, "settings": asdict(config), "versions": _versions()}
    trainer = Trainer(checkpoint, config, folder)
    sweep(out)
    if config.shared_steps:
        everybody = [row for found in rows.values() for row in found]
        common["shared"] = trainer.shared(out / SHARED, everybody, _identity(common, SHARED, everybody))
    users: dict[str, Any] = {}
    with Progress.on(console, "adapters", len(rows)) as progress:
        for user, found in rows.items():
            if config.steps:
                identity = _identity(common, user, found)
                users[user] = {"file": file_of(user), **trainer.personal(out / file_of(user), user, found, identity)}
            else:
                users[user] = {"examples": len(found)}
            progress.advance()
    record = {**common, "users": users}
    write_text(out / INDEX, json.dumps(record, indent=1, sort_keys=True) + "\n", sync=False)
    return record


def export(folder: Path, user: str, out: Path, *, base: str | Path) -> None:
    """Write one user's adapter, that for all included, as peft and vLLM read it: a folder with two files.

    Args:
        folder: adapters as :func:`train_adapters` leaves them.
        user: whose.
        out: the new folder.
        base: the checkpoint that it belongs to.

    Raises:
        InputError: no adapters, or those of another base, or none of this user.
    """
    adapters = AdapterFolder(folder, fingerprint(locate(base)))
    pairs = adapters.of(user)
    if not pairs:
        raise InputError(str(folder), f"no adapter of user '{user}'", "one")
    rank = next(iter(pairs.values()))[0].shape[0]
    out.mkdir(parents=True, exist_ok=True)
    # The updates come scaled already, so alpha equals the rank.
    shape = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=adapters.index["settings"]["targets"],
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base),
        inference_mode=True,
    )
    shape.save_pretrained(str(out))
    tensors = {f"{PREFIX}{layer}{DOWN}": down.contiguous() for layer, (down, _) in pairs.items()}
    tensors |= {f"{PREFIX}{layer}{UP}": up.contiguous() for layer, (_, up) in pairs.items()}
    save_file(tensors, out / "adapter_model.safetensors")


def export_gguf(folder: Path, out: Path, *, base: str | Path, users: Sequence[str] | None = None) -> dict[str, str]:
    """Write users' adapters, that for all included, as llama.cpp's server loads them: a GGUF file for each user.

    ``users.json`` beside them says whose each file is.

    Args:
        folder: adapters as :func:`train_adapters` leaves them.
        out: the folder of the files.
        base: the checkpoint that they belong to.
        users: whose; None for all that have one.

    Returns:
        The file of each user.

    Raises:
        InputError: no adapters, those of another base, none of one of these users, or an architecture for which this is
            not written.
    """
    from bestfor.lm.gguf_adapters import write_gguf_adapter

    place = locate(base)
    adapters = AdapterFolder(folder, fingerprint(place))
    known: Mapping[str, Any] = adapters.index["users"]
    files: dict[str, str] = {}
    if not known:
        raise InputError(str(folder), "adapters of no user", "one at least")
    for user in sorted(known) if users is None else users:
        if user not in known:
            raise InputError(str(folder), f"no adapter of user '{user}'", "one")
        files[user] = Path(file_of(user)).stem + GGUF_SUFFIX
        write_gguf_adapter(adapters.of(user), out / files[user], place)
    write_json(out / USERS, {"base": adapters.index["base"], "adapters": adapters.digest, "files": files})
    return files


def encode_examples(checkpoint: Checkpoint, examples: Sequence[Example], limit: int) -> list[Encoded]:
    """Encode chats as the policy reads them when it is asked, each followed by the text and its end."""
    tokenizer = checkpoint.tokenizer
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    found: list[Encoded] = []
    for example in examples:
        prompt = checkpoint.encode(list(example.messages))
        wrote = [*tokenizer(example.output, add_special_tokens=False)["input_ids"], *end]
        if wrote and len(prompt) + len(wrote) <= limit:
            target = np.repeat([0, 1], [len(prompt), len(wrote)])
            found.append(Encoded(np.array([*prompt, *wrote], dtype=np.int64), target))
    return found


class Trainer:
    """Trainer on a loaded base, with an adapter for all and a personal one that is made new for each user."""

    def __init__(self, checkpoint: Checkpoint, config: LoraSettings, folder: Path) -> None:
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
                raise InputError(str(folder), found, f"targets among {_linear_layers(self._model)}") from error
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
            record = known["told"]
        else:
            record = self._fit(_ALL, "", rows, self._config.shared_steps)
            self._save(path, _ALL, {"identity": identity, "told": record})
            self._load(path)  # as it is on disk, rounded
        self._active = [_ALL, _OWN]
        return record

    def personal(self, path: Path, user: str, rows: Sequence[Encoded], identity: str) -> dict[str, Any]:
        """Train a user's adapter, unless its file is there."""
        known = notes_of(path)
        if known.get("identity") == identity:
            return known["told"]
        record = self._fit(_OWN, user, rows, self._config.steps)
        self._save(path, _OWN, {"identity": identity, "told": record, "user": user})
        return record

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
        if not all(map(math.isfinite, losses)) or not all(bool(one.isfinite().all()) for one in weights):
            whose = f"of '{user}'" if user else "for all"
            raise InputError(f"adapter {whose}", f"NaN or infinite numbers after {steps} steps", "a lower rate")
        return {"examples": len(rows), "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4)}

    def _start(self, name: str, user: str) -> list[torch.nn.Parameter]:
        """Draw the first weights of an adapter: A uniform as in a linear layer, B zero; only they are trained."""
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
        with writing(path, sync=False) as partial:
            # One key: the order of several would differ from process to process.
            save_file(tensors, partial, metadata={NOTES: json.dumps(notes, sort_keys=True)})

    def _load(self, path: Path) -> None:
        set_peft_model_state_dict(self._wrapped, load_file(path), adapter_name=_ALL)


def _identity(common: Mapping[str, Any], user: str, rows: Sequence[Encoded]) -> str:
    return hash_parts(chain([json.dumps([common, user], sort_keys=True).encode()], _bytes(rows)))


def _bytes(rows: Sequence[Encoded]) -> Iterator[bytes]:
    for row in rows:
        yield row.ids.tobytes()
        yield row.target.tobytes()


def _linear_layers(model: torch.nn.Module) -> list[str]:
    """Last parts of the names of a model's linear layers, its head aside."""
    found = {
        name.rpartition(".")[2] for name, one in model.named_modules() if type(one).__name__ in ("Linear", "Conv1D")
    }
    return sorted(found - {"lm_head"})


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "peft")}
