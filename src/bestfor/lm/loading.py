"""Load checkpoints safely, choose devices and types, recognise lack of memory, and probe what a model can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers.utils import logging as hub_logging

from bestfor.errors import BestforError, InputError

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""How what lies in a folder is read: code in it is never executed, and nobody is asked whether it may be."""

FULL = ("out of memory", "not enough memory", "can't allocate", "alloc_failed")
"""What allocators of processors and devices say in a RuntimeError of no kind of its own."""


@contextmanager
def progress_hidden() -> Iterator[None]:
    """Hide the bars of loading weights, which is no step of a run."""
    shown = hub_logging.is_progress_bar_enabled()
    hub_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hub_logging.enable_progress_bar()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' table of weights that were missing or left over: what is wrong becomes an error instead."""
    shown = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(shown)


@contextmanager
def usable(folder: Path, expected: str = "a causal language model") -> Iterator[None]:
    """Turn whatever keeps transformers from making a model of a folder into an InputError.

    A package that is not there, and memory that does not suffice, are no faults of the folder and stay as they are.
    """
    try:
        yield
    except (BestforError, ImportError):
        raise
    except Exception as error:  # tokenizers raise bare Exceptions, odd configurations whatever they meet first
        if is_full(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(str(folder), f"no usable model ({reason})", expected) from error


def is_full(error: Exception) -> bool:
    """Tell whether an error says that memory does not suffice: allocators have no common kind for it."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in FULL)


def device_of(name: str) -> torch.device:
    """Choose the device that a name means; ``"auto"`` is CUDA where it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Draws are accumulated in float64, which not every kind of device has.
        torch.empty(0, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError("device", f"'{name}' ({str(error).splitlines()[0]})", "cpu, cuda or auto") from error
    return device


def dtype_of(name: str, device: str) -> torch.dtype | str:
    """Choose the weights' type; ``"auto"`` is float32 on a CPU and the checkpoint's own elsewhere."""
    if name == "auto":
        return torch.float32 if device == "cpu" else "auto"
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InputError("dtype", f"'{name}'", "auto, float32, bfloat16 or float16")
    return kind


def agrees(work: Callable[[], tuple[torch.Tensor, torch.Tensor]], dtype: torch.dtype) -> bool:
    """Probe whether a way to run a model gives what plain passes over whole sequences give.

    Args:
        work: runs both; returns what was found and what is expected, of equal shapes.
        dtype: of the model: float32 may differ by 1e-3 of the largest value and of 1, other types by 5e-2.

    Returns:
        False, too, where the model cannot be run that way at all.

    Raises:
        RuntimeError, MemoryError: there is no memory, which says nothing about the model.
    """
    try:
        found, expected = work()
        slack = 1e-3 if dtype == torch.float32 else 5e-2
        return bool((found - expected).abs().max() <= slack * (1.0 + expected.abs().max()))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError) as error:
        if is_full(error):
            raise
        return False
