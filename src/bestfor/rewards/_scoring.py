"""States of many candidates at once: a query's prompt is read once, and users with adapters of their own share batches.

Without gradients. How texts are read, :mod:`bestfor.rewards._passes` decides; what memory does not hold goes in halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from bestfor.errors import InputError
from bestfor.policies._checkpoint import is_full
from bestfor.policies._lora import Pair, worn
from bestfor.rewards._backbone import Backbone
from bestfor.rewards._packs import Pack
from bestfor.rewards._passes import Batch, plan
from bestfor.rewards._prefix import states_behind, states_repeated

StateArray = npt.NDArray[np.float32]


def states_of(
    backbone: Backbone,
    packs: Sequence[Pack],
    adapters: Sequence[Mapping[str, Pair]],
    *,
    tokens: int,
    tell: Callable[[str], None] | None = None,
) -> StateArray:
    """The state of every text.

    Equal batches give equal bits; another split into batches changes rounding alone. Threads that share a backbone take
    turns, since what a batch wears hangs on its layers.

    Args:
        backbone: the model.
        packs: candidates by query.
        adapters: what each pack's user wears; asked for when the pack's turn comes, so it may read them lazily.
        tokens: padded tokens of a pass, those of the cache it sees included; a longer pair goes alone.
        tell: takes a sentence where a batch does not fit in memory and goes in halves.

    Returns:
        Shape (texts, hidden) in float32, in the order of the packs' texts.

    Raises:
        InputError: a pair for which there is no memory, or an adapter of layers that the backbone does not have.
    """
    found = np.zeros((sum(len(pack.texts) for pack in packs), backbone.hidden), dtype=np.float32)
    refused: float = np.inf
    with backbone.lock, torch.no_grad(), _evaluating(backbone.model):
        waiting = plan(backbone, packs, tokens)[::-1]
        while waiting:
            batch = waiting.pop()
            states = _tried(backbone, batch, adapters) if batch.size < refused or batch.alone else None
            if states is not None:
                found[np.concatenate([pack.rows for pack in batch.packs])] = states
                continue
            if batch.alone:
                raise _too_long(backbone, batch.packs[0])
            if batch.size < refused and tell is not None:
                tell(f"{batch} did not fit in memory and goes in halves.")
            refused = min(refused, batch.size)
            waiting.extend(reversed(batch.halves()))
    return found


def _tried(backbone: Backbone, batch: Batch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray | None:
    """The states of a batch; None where memory does not hold it."""
    try:
        return _read(backbone, batch, adapters)
    except (RuntimeError, MemoryError) as error:
        if not is_full(error):
            raise
    # out of the handler, so that what the error held is free
    if backbone.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _read(backbone: Backbone, batch: Batch, adapters: Sequence[Mapping[str, Pair]]) -> StateArray:
    asked = [adapters[pack.user] for pack in batch.packs]
    distinct = {id(one): one for one in asked}
    places = {key: place for place, key in enumerate(distinct)}
    with worn(backbone.model, list(distinct.values())) as now:
        layout = backbone.layout(batch.packs) if batch.way == "together" else None
        of_pack = np.array([places[id(one)] for one in asked])
        rows = of_pack if layout is None else of_pack[layout.pack]
        # the only one is every row's, without copies
        now.only(rows.tolist() if len(distinct) > 1 else [0])
        if layout is not None:
            states = backbone.states(layout)
        elif batch.way == "behind":
            states = states_behind(backbone.model, batch.packs, batch.chunk, backbone.pad, backbone.pooling)
        else:
            states = states_repeated(backbone.model, batch.packs[0], backbone.pad, backbone.pooling)
        return states.cpu().numpy()


def _too_long(backbone: Backbone, pack: Pack) -> InputError:
    found = f"no memory for a text of {len(pack.texts[0])} tokens behind a prompt of {len(pack.prompt)}"
    return InputError(f"backbone '{backbone.name}'", found, "a lower limit of tokens, or a device with more memory")


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
