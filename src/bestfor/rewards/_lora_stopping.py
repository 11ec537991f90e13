"""How long a run goes on: a number of passes, or until held-out labels gain nothing; its state on disk meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from bestfor.rewards._lora_state import State, Tensors
from bestfor.rewards.lora.training import Descent, NotFiniteError

GAIN = 5e-4
NOW, BEST, MOMENTS = "now.", "best.", "moments."


@dataclass(frozen=True)
class Limits:
    """When a run ends.

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
class Part:
    """Where a run's state is kept.

    Attributes:
        state: the fit's files; None keeps nothing.
        name: of the run.
        every: steps after which the state is written.
    """

    state: State | None
    name: str
    every: int


@dataclass
class _Best:
    value: float = math.inf
    passes: int = 0
    weights: Tensors = field(default_factory=dict)


def descend(run: Descent, limits: Limits, part: Part, shown: Callable[[int], None]) -> int:
    """Train a run to its end; it then has its best weights.

    Args:
        run: from its first weights; goes on from where its state on disk is.
        limits: when it ends.
        part: where its state is kept.
        shown: called with the labels of each step.

    Returns:
        The passes that its weights took.

    Raises:
        NotFiniteError: a loss that is no number; the state before it is on disk.
    """
    best, number, done = _restored(run, part)
    if done:
        return best.passes

    def after(labels: int) -> None:
        shown(labels)
        if part.state is not None and run.step % part.every == 0:
            _store(run, part, best, number)

    if run.step == 0:
        _judged(run, limits, best, 0)
    while number < limits.passes:
        try:
            run.epoch(number, after)
        except NotFiniteError:
            _store(run, part, best, number)
            raise
        number += 1
        if _judged(run, limits, best, number):
            break
    if best.weights:
        _copy(best.weights, run)
    else:
        best.passes = number
    _store(run, part, best, number, done=True)
    return best.passes


def _judged(run: Descent, limits: Limits, best: _Best, number: int) -> bool:
    """Whether a run has gained nothing for too long after so many passes."""
    if limits.held is None or number < limits.first:
        return False
    value = limits.held()
    if value < best.value - GAIN:
        best.value, best.passes = value, number
        best.weights = {name: weight.detach().clone() for name, weight in run.weights.items()}
    return number - best.passes >= limits.patience


def _copy(tensors: Tensors, run: Descent) -> None:
    with torch.no_grad():
        for name, weight in run.weights.items():
            weight.copy_(tensors[name])


def _store(run: Descent, part: Part, best: _Best, number: int, *, done: bool = False) -> None:
    if part.state is None:
        return
    tensors = {NOW + name: weight for name, weight in run.weights.items()}
    if not done:
        tensors |= {BEST + name: weight for name, weight in best.weights.items()}
        tensors |= run.moments(MOMENTS)
    tokens = run.context.device.tokens
    notes = {"step": run.step, "number": number, "done": done, "passes": best.passes, "tokens": tokens}
    part.state.put(part.name, tensors, {**notes, "best": best.value if math.isfinite(best.value) else None})


def _restored(run: Descent, part: Part) -> tuple[_Best, int, bool]:
    """The best so far, the pass it is in, and whether that was all; a run's weights and moments as they were."""
    known = None if part.state is None else part.state.get(part.name)
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
