"""Attach adapters to a backbone for training, through peft: one for everybody and one for the user at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from bestfor import rng
from bestfor.errors import InputError
from bestfor.lm.adapters import Pair
from bestfor.lm.packing import Pack
from bestfor.lm.states import Backbone
from bestfor.rewards.lora.config import Config

SHARED, OWN = "shared", "own"
LAYERS = (torch.nn.Linear, Conv1D)


class AdaptedBackbone:
    """Backbone with the adapters that are being trained; made by :func:`attach_adapters`.

    Args:
        backbone: the base; never changed.
        config: shapes of the adapters.
        wrapped: the base as peft has it.
    """

    def __init__(self, backbone: Backbone, config: Config, wrapped: PeftModel) -> None:
        self._backbone, self._config, self._wrapped = backbone, config, wrapped
        self._model = cast(torch.nn.Module, backbone.model)
        # Under autocast a copy of every input in the adapters' float32 would only be cast back.
        for module in self._model.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                cast(Any, module).cast_input_dtype_enabled = False
        self._names = [name for name in (SHARED, OWN) if name in wrapped.peft_config]

    def start(self, name: str, seed: int, user: str = "") -> dict[str, Tensor]:
        """Draw first weights of an adapter: A uniform as in a linear layer, B zero; only they are trained.

        Args:
            name: ``SHARED`` or ``OWN``.
            seed: of the first weights.
            user: whose; they depend on nobody else.

        Returns:
            The weights by name.
        """
        self.activate([SHARED] if name == SHARED else self._names)
        found: dict[str, Tensor] = {}
        for place, weights in self._model.named_parameters():
            own = f".{name}." in place and ".lora_" in place
            weights.requires_grad_(own)
            if not own:
                continue
            found[place] = weights
            with torch.no_grad():
                weights.zero_()
                if "lora_A" in place:
                    edge = weights.shape[1] ** -0.5
                    drawn = rng.derive(seed, "adapter", user, place).uniform(-edge, edge, tuple(weights.shape))
                    weights.copy_(torch.from_numpy(drawn))
        return found

    def activate(self, names: list[str]) -> None:
        """Activate these adapters and no others."""
        cast(Any, self._wrapped.base_model).set_adapter(names)

    def layers(self, name: str) -> Mapping[str, Pair]:
        """Return an adapter as it is stored: copies of A and of B times alpha / rank, by layer."""
        found: dict[str, Pair] = {}
        for path, module in self._model.named_modules():
            if name in getattr(module, "lora_A", {}):
                layer = cast(Any, module)
                down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
                found[path] = (down.detach().clone(), up.detach() * layer.scaling[name])
        return found

    def states(self, packs: Sequence[Pack]) -> Tensor:
        """Compute the state of every text of the packs, shape (texts, hidden) in float32."""
        dtype = self._backbone.model.dtype
        with torch.autocast(self._backbone.device.type, dtype, enabled=dtype != torch.float32):
            return self._backbone.states(self._backbone.layout(packs))

    @contextmanager
    def training(self) -> Iterator[None]:
        """Switch to training: within, activations are checkpointed and adapters' inputs dropped where that is wanted.

        A base's own dropout stays off: it would draw from a stream that all users share.
        """
        modules = list(self._model.modules())
        layers = [one for one in modules if isinstance(one, GradientCheckpointingLayer)]
        drops = [part for one in modules for part in getattr(one, "lora_dropout", {}).values()]
        flags = [*(layers if self._config.checkpointing else []), *(drops if self._config.dropout else [])]
        for module in flags:
            module.training = True
        try:
            yield
        finally:
            for module in flags:
                module.training = False

    def close(self) -> None:
        """Detach the adapters and leave the base as it was."""
        model = cast(Any, self._model)
        with _quiet():
            if self._config.checkpointing:
                model.gradient_checkpointing_disable()
            cast(Any, self._wrapped).unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        model.requires_grad_(False)


@contextmanager
def attach_adapters(backbone: Backbone, config: Config) -> Iterator[AdaptedBackbone]:
    """Attach new adapters to a backbone within the context; then it is as before.

    Raises:
        InputError: the backbone has no layers of these names.
    """
    _ = backbone.packs  # probed before anything is attached
    first, *others = [name for name in (SHARED, OWN) if has_adapter(config, name)]
    names = sorted({name.split(".")[-1] for name, one in backbone.model.named_modules() if isinstance(one, LAYERS)})
    with _quiet():
        try:
            wrapped = get_peft_model(backbone.model, _shape(config, first), adapter_name=first)
            for name in others:
                wrapped.add_adapter(name, _shape(config, name))
        except ValueError as error:
            found = f"no layers to adapt ({str(error).split('. ')[0]})"
            raise InputError(f"backbone '{backbone.name}'", found, f"some of {', '.join(names)}") from error
    adapted = AdaptedBackbone(backbone, config, wrapped)
    try:
        if config.checkpointing:
            with _quiet():
                backbone.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        yield adapted
    finally:
        adapted.close()


def has_adapter(config: Config, name: str) -> bool:
    """Tell whether these settings have an adapter of this name, ``SHARED`` or ``OWN``."""
    return config.level in ("both", "global" if name == SHARED else "user")


def _shape(config: Config, name: str) -> LoraConfig:
    shared = name == SHARED
    targets = config.targets if shared else config.user_targets
    every = "all-linear" if targets == ("all-linear",) else list(targets) or None
    return LoraConfig(
        r=config.rank if shared else config.user_rank,
        lora_alpha=cast(int, config.alpha if shared else config.user_alpha),
        target_modules=every,
        lora_dropout=config.dropout,
        bias="none",
        task_type=None,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # transformers 5 has deprecated names that peft 0.21 and transformers 4 need; peft also says when it turns a
        # GPT-2 layer's matrix.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out", category=UserWarning)
        yield
