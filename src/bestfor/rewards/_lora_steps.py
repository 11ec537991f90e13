"""How packs make up the steps of a pass, and the batches of a step that fit on a device."""

from __future__ import annotations

from collections.abc import Sequence

from bestfor import rng
from bestfor.data.chunks import portions
from bestfor.rewards.lora.rows import Bundle, Rows

WINDOW = 8
"""Steps among which packs are sorted by length: little padding, and an order that is still random."""


def schedule(rows: Rows, bundles: Sequence[Bundle], each: int, seed: int, *names: str | int) -> list[list[int]]:
    """Bundles of each step of a pass: about ``each`` rows, of similar length, in an order drawn from (seed, names)."""
    draw = rng.derive(seed, "order", *names)
    steps: list[list[int]] = []
    lengths = [max(rows.packs[index].length for index in bundle.packs) for bundle in bundles]

    def weigh(index: int) -> int:
        return len(bundles[index].rows)

    for window in portions(draw.permutation(len(bundles)).tolist(), weigh, WINDOW * each):
        steps += portions(sorted(window, key=lambda index: (lengths[index], index)), weigh, each)
    return [steps[index] for index in draw.permutation(len(steps)).tolist()]


def batches(rows: Rows, bundles: Sequence[Bundle], tokens: int, *, packed: bool) -> list[list[Bundle]]:
    """Bundles in batches of at most so many padded tokens, shortest first; a longer bundle is one of its own."""
    sizes = [_size(rows, bundle, packed=packed) for bundle in bundles]
    found: list[list[Bundle]] = []
    count = 0
    for index in sorted(range(len(bundles)), key=lambda index: (sizes[index][1], index)):
        sequences, width = sizes[index]
        if not found or (count + sequences) * width > tokens:
            found.append([])
            count = 0
        found[-1].append(bundles[index])
        count += sequences
    return found


def largest(rows: Rows, bundles: Sequence[Bundle], *, packed: bool) -> int:
    """Padded tokens of the largest bundle: no batch need be larger."""
    sizes = (_size(rows, bundle, packed=packed) for bundle in bundles)
    return max(sequences * width for sequences, width in sizes)


def _size(rows: Rows, bundle: Bundle, *, packed: bool) -> tuple[int, int]:
    """Sequences of a bundle, and tokens of the longest."""
    packs = [rows.packs[index] for index in bundle.packs]
    if packed:
        return len(packs), max(pack.length for pack in packs)
    longest = max(len(pack.prompt) + max(len(text) for text in pack.texts) for pack in packs)
    return sum(len(pack.texts) for pack in packs), longest
