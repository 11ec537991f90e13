"""Group prompts and candidates that share a pass through the model: padding changes bits, so pools are keyed by it."""

from __future__ import annotations

from collections.abc import Sequence

SIDE_BY_SIDE = 32
"""Candidates of a prompt that are sampled at once: each step attends to all their tokens, seen or not."""

PADDED = 2
"""How many times as long as the shortest prompt of a batch the longest may be: more prompts a step against padding."""


def buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Group rows of similar length, which are padded to the longest of them: at most ``PADDED`` times the shortest."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if not groups or lengths[row] > PADDED * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(row)
    return groups


def rule() -> str:
    """State what decides batches beside the chunk, for signatures."""
    return f"prompts up to {PADDED} times as long, {SIDE_BY_SIDE} candidates side by side"
