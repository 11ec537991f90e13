"""Load a checkpoint's weights, and refuse one that lacks some: transformers makes up what is missing at random."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from bestfor.errors import InputError
from bestfor.lm.loading import LOCAL, progress_hidden, quiet_loading

WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.", "_forward_module.", "base_model.model.")
"""What torch.compile, DistributedDataParallel, FSDP, DeepSpeed and PEFT put before the names of a model's weights."""

_UNUSED = re.compile(r"(^|\.)pooler\.")
"""Weights behind the last hidden states, which nobody here reads."""


def load_weights(kind: Any, folder: str | Path, **options: Any) -> Any:  # noqa: ANN401 - transformers' auto classes
    """Load a model and check that every weight it needs came from the files.

    Args:
        kind: ``AutoModel``, ``AutoModelForCausalLM`` or a class of transformers.
        folder: a checkpoint's folder, or a hub name.
        options: for ``from_pretrained``; they may replace those of :data:`~bestfor.lm.loading.LOCAL`.

    Returns:
        The model as transformers made it.

    Raises:
        InputError: weights that are missing, of another shape than the configuration says, or not finite.
    """
    found = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with progress_hidden(), quiet_loading():
        model, info = kind.from_pretrained(folder, **(LOCAL | options | found))
    check_loaded(model, info, str(folder))
    check_finite(model.named_parameters(), str(folder))
    return model


def check_loaded(model: Any, info: Any, where: str) -> None:  # noqa: ANN401 - transformers' own
    """Refuse a model of which transformers says that weights were missing or misshapen.

    Heads that are not used, and weights tied to others, are not among those that are needed.

    Raises:
        InputError: with the number of weights, an example and the likely cause.
    """
    misshapen = sorted(info.get("mismatched_keys", ()))
    if misshapen:
        name, held, wanted = misshapen[0]
        size = _size(held)
        expected = f"{_size(wanted)}, as config.json says: save the configuration together with the weights"
        more = f" ({len(misshapen)} such weights)" if len(misshapen) > 1 else ""
        raise InputError(where, f"weights '{name}' of {size}{more}", expected)
    split = has_decoder(model)
    missing = sorted(name for name in info["missing_keys"] if not _unused(name, split))
    if missing:
        count = sum(1 for _ in model.state_dict())
        found = f"no weights for {len(missing)} of {count} tensors, such as '{missing[0]}'"
        raise InputError(where, found, _remedy(sorted(info["unexpected_keys"])))


def check_finite(weights: Iterable[tuple[str, torch.Tensor]], where: str) -> None:
    """Refuse weights that hold NaN or infinite numbers.

    Raises:
        InputError: with the number of tensors and an example.
    """
    bad, count = [], 0
    for name, weight in weights:
        count += 1
        # a sum is finite unless an addend is not: no copy of the weights is made; 8-bit numbers cannot be added
        real = weight.is_floating_point() and weight.element_size() > 1
        if real and not math.isfinite(weight.detach().sum(dtype=torch.float32).item()):
            bad.append(name)
    if bad:
        found = f"NaN or infinite numbers in {len(bad)} of {count} tensors, such as '{bad[0]}'"
        raise InputError(where, found, "finite weights: an earlier checkpoint of the training, perhaps")


def check_tokens(ids: Sequence[int], model: Any, tokenizer: Any, where: str) -> None:  # noqa: ANN401 - transformers' own
    """Refuse token ids that the model's embeddings lack.

    Raises:
        InputError: a tokenizer with tokens that were added and never given an embedding.
    """
    rows = embedding_rows(model)
    largest = max(ids, default=0)
    if rows is not None and largest >= rows:
        token = tokenizer.convert_ids_to_tokens(largest)
        found = f"token {largest} of the tokenizer ('{token}'), which has no embedding"
        raise InputError(where, found, f"tokens below {rows}, the rows of the embeddings (resize_token_embeddings)")


def check_tokenizer(tokenizer: Any, where: str) -> None:  # noqa: ANN401 - transformers' own
    """Refuse a tokenizer without a vocabulary, which transformers makes where a checkpoint has no tokenizer's files.

    Raises:
        InputError: it reads nothing in any text.
    """
    if not tokenizer.encode("a 0 \u4e2d", add_special_tokens=False):
        expected = "the tokenizer's files (tokenizer.json and the like) beside the weights"
        raise InputError(where, "no vocabulary: the tokenizer reads nothing in any text", expected)


def has_decoder(model: Any) -> bool:  # noqa: ANN401 - transformers' own
    """True for a model with a decoder behind an encoder; an encoder saved alone is loaded as one, too."""
    return hasattr(model, "encoder") and hasattr(model, "decoder")


def embedding_rows(model: Any) -> int | None:  # noqa: ANN401 - transformers' own
    """Count the tokens that have an embedding, None where the model does not say."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, TypeError, IndexError):
        return None


def _unused(name: str, split: bool) -> bool:
    return _UNUSED.search(name) is not None or (split and name.startswith("decoder."))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape) or "one number"


def _remedy(unexpected: Sequence[str]) -> str:
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in unexpected):
            return f"them: the files hold '{unexpected[0]}', so save the model itself, not its wrapper ('{prefix}')"
    if unexpected:
        return f"a whole checkpoint of this architecture; the files hold others, such as '{unexpected[0]}'"
    return "a whole checkpoint: all its files, saved after training"
