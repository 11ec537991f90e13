"""Carry a training run to its end: stop by held-out labels, keep the best weights, go on from disk after a kill.

A fit has a folder per identity (settings, data, base, seed, versions) with a safetensors file for each part of the
work: its tensors, and a JSON object in the header. A file is written in one step, so it is there whole or not at all,
and a fit that was killed ends with the same bytes.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bestfor.files import hash_json, write_bytes
from bestfor.lm.adapter_files import NOTES
from bestfor.rewards.lora.training import LoraRun, NotFiniteError

ADAPTERS = "adapters"
GAIN = 5e-4
"""Least gain in mean held-out loss that counts."""
NOW, BEST, MOMENTS = "now.", "best.", "moments."
"""Prefixes of a file's tensors: present weights, best ones, the optimiser's."""

Tensors = dict[str, torch.Tensor]


class FitFiles:
    """Files of one fit, by the hash of all that decides its result.

    Args:
        root: folder of the states of all fits.
        identity: all that decides the result, as plain values.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.identity = hash_json(identity)
        self.folder = root / f"lora-{self.identity[:16]}"

    @property
    def adapters(self) -> Path:
        """The folder of the finished adapters."""
        return self.folder / ADAPTERS

    def get(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Read tensors and notes of a part; None where there is no whole file of this fit."""
        try:
            with safe_open(self._path(name), "pt") as opened:
                notes = json.loads((opened.metadata() or {})[NOTES])
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
        except (OSError, ValueError, KeyError, SafetensorError):
            return None
        return (tensors, notes["notes"]) if notes.get("identity") == self.identity else None

    def put(self, name: str, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any]) -> None:
        """Write a part in the place of the one before."""
        ready = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
        # One key: the order of several would differ from process to process.
        header = {NOTES: json.dumps({"identity": self.identity, "notes": notes}, sort_keys=True)}
        write_bytes(self._path(name), save(ready, header))

    def remove(self) -> None:
        """Remove the files, once what was fitted has been saved elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


@dataclass(frozen=True)
class StoppingRule:
    """Rule by which a run ends.

    Attributes:
        passes: at most.
        patience: passes without gain.
        first: passes that the best weights took at least; 0 where those that it starts from may be best.
        held: mean held-out loss of the run's present weights; None goes on to the end.
    """

    passes: int
    patience: int = 1
    first: int = 0
    held: Callable[[], float] | None = None


@dataclass
class SavePoint:
    """File in which a run's state is kept.

    Attributes:
        state: the fit's files; None keeps nothing.
        name: of the run.
        every: steps after which the state is written.
    """

    state: FitFiles | None
    name: str
    every: int


@dataclass
class _Best:
    """Best weights so far, by held-out loss."""

    value: float = math.inf
    passes: int = 0
    weights: Tensors = field(default_factory=dict)


def run_to_end(run: LoraRun, rule: StoppingRule, point: SavePoint, advance: Callable[[int], None]) -> int:
    """Train a run to its end; it then has its best weights.

    Args:
        run: from its first weights; goes on from where its state on disk is.
        rule: when it ends.
        point: where its state is kept.
        advance: called with the labels of each step.

    Returns:
        The passes that its weights took.

    Raises:
        NotFiniteError: a loss that is no number; the state before it is on disk.
    """
    best, number, done = _restore(run, point)
    if done:
        return best.passes

    def after(labels: int) -> None:
        advance(labels)
        if point.state is not None and run.step % point.every == 0:
            _store(run, point, best, number)

    if run.step == 0:
        _is_over(run, rule, best, 0)
    while number < rule.passes:
        try:
            run.epoch(number, after)
        except NotFiniteError:
            _store(run, point, best, number)
            raise
        number += 1
        if _is_over(run, rule, best, number):
            break
    if best.weights:
        _copy(best.weights, run)
    else:
        best.passes = number
    _store(run, point, best, number, done=True)
    return best.passes


def _is_over(run: LoraRun, rule: StoppingRule, best: _Best, number: int) -> bool:
    """Note the best weights, and tell whether a run has gained nothing for too long after so many passes."""
    if rule.held is None or number < rule.first:
        return False
    value = rule.held()
    if value < best.value - GAIN:
        best.value, best.passes = value, number
        best.weights = {name: weight.detach().clone() for name, weight in run.weights.items()}
    return number - best.passes >= rule.patience


def _copy(tensors: Tensors, run: LoraRun) -> None:
    with torch.no_grad():
        for name, weight in run.weights.items():
            weight.copy_(tensors[name])


def _store(run: LoraRun, point: SavePoint, best: _Best, number: int, *, done: bool = False) -> None:
    if point.state is None:
        return
    tensors = {NOW + name: weight for name, weight in run.weights.items()}
    if not done:
        tensors |= {BEST + name: weight for name, weight in best.weights.items()}
        tensors |= run.moments(MOMENTS)
    tokens = run.context.device.tokens
    notes = {"step": run.step, "number": number, "done": done, "passes": best.passes, "tokens": tokens}
    point.state.put(point.name, tensors, {**notes, "best": best.value if math.isfinite(best.value) else None})


def _restore(run: LoraRun, point: SavePoint) -> tuple[_Best, int, bool]:
    """Restore a run's weights and moments; returns the best so far, the pass it is in, and whether that was all."""
    known = None if point.state is None else point.state.get(point.name)
    if known is None:
        return _Best(), 0, False
    tensors, notes = known
    _copy({name: tensors[NOW + name] for name in run.weights}, run)
    run.step = notes["step"]
    # what did not fit does not fit now
    run.context.device.tokens = min(run.context.device.tokens, notes["tokens"])
    run.restore({name: value for name, value in tensors.items() if name.startswith(MOMENTS)}, MOMENTS)
    weights = {name.removeprefix(BEST): value for name, value in tensors.items() if name.startswith(BEST)}
    value = math.inf if notes["best"] is None else notes["best"]
    device = run.heads.mean.device
    weights = {name: value.to(device) for name, value in weights.items()}
    return _Best(value, notes["passes"], weights), notes["number"], notes["done"]
