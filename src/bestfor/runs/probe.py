"""Measure how fast a policy writes and an encoder reads here, in seconds rather than hours: what a plan rests on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bestfor.encoders.base import Encoder
from bestfor.policies.base import Policy, Prompt, Resumable, Sampled

_FIRST_TEXTS = 16
_Given = TypeVar("_Given")


@dataclass(frozen=True)
class SamplingSpeed:
    """Speed of a policy, measured on prompts of the run; what was written is not kept.

    Attributes:
        candidates_per_second: of the largest batch that was tried.
        tokens_per_candidate: mean of all that was written; 0 where the policy does not count.
        bytes_per_candidate: mean length of a text in UTF-8.
        candidates: that were written.
        seconds: that they took, loading included.
    """

    candidates_per_second: float
    tokens_per_candidate: float
    bytes_per_candidate: float
    candidates: int
    seconds: float


@dataclass(frozen=True)
class EncodingSpeed:
    """Speed of an encoder, measured on texts of the run.

    Attributes:
        texts_per_second: of the largest batch that was tried.
        texts: that were encoded.
        seconds: that they took, loading not included.
    """

    texts_per_second: float
    texts: int
    seconds: float


def probe_policy(policy: Policy, prompts: Sequence[Prompt], n: int, seconds: float, *, seed: int) -> SamplingSpeed:
    """Sample more and more prompts at once until the time is over.

    Each batch has other prompts than those before, spread over all of them, so that no server knows them already, and
    is twice as large, up to a chunk of the policy. A batch is begun only where twice the time of the last one is left,
    so that a probe ends a little before its time; the first batch, of one prompt, is always done.

    Args:
        policy: writes.
        prompts: of the run, at least one.
        n: candidates of a prompt.
        seconds: the time.
        seed: the run's seed.
    """
    written: list[Sampled] = []
    used, rate = 0.0, 0.0
    for part in _batches(prompts, 1, policy.chunk):
        size, took = len(part), _timed(lambda part=part: written.extend(_write(policy, part, n, seed)))
        used, rate = used + took, size * n / took
        if used + 2 * took > seconds:
            break
    lengths = [len(one.text.encode("utf-8", "replace")) for one in written]
    tokens = [one.tokens for one in written]
    return SamplingSpeed(rate, float(np.mean(tokens)), float(np.mean(lengths)), len(written), used)


def probe_encoder(encoder: Encoder, texts: Sequence[str], seconds: float) -> EncodingSpeed:
    """Encode more and more texts at once until the time is over; arguments as for :func:`probe_policy`.

    The encoder must not remember texts.
    """
    encoder.encode([texts[0]])
    used, rate, done = 0.0, 0.0, 0
    for part in _batches(texts, _FIRST_TEXTS, len(texts)):
        took = _timed(lambda part=part: encoder.encode(list(part)))
        used, rate, done = used + took, len(part) / took, done + len(part)
        if used + 2 * took > seconds:
            break
    return EncodingSpeed(rate, done, used)


def _batches(given: Sequence[_Given], first: int, most: int) -> list[list[_Given]]:
    """Cut spread-out batches, each twice the one before and up to ``most``, as far as what is given goes."""
    # A fixed order that visits the whole range early: every k-th, for a k without a common divisor.
    stride = next(k for k in range(max(len(given) * 5 // 13, 1), len(given) + 2) if np.gcd(k, len(given)) == 1)
    order = [given[i * stride % len(given)] for i in range(len(given))]
    found: list[list[_Given]] = []
    start, size = 0, min(first, most)
    while start < len(order):
        part = order[start : start + size]
        if found and len(part) < size:
            break
        found.append(part)
        start, size = start + size, min(2 * size, most)
    return found


def _write(policy: Policy, prompts: Sequence[Prompt], n: int, seed: int) -> list[Sampled]:
    if isinstance(policy, Resumable):
        written = policy.complete(prompts, n, seed=seed, have=[{} for _ in prompts])
    else:
        written = policy.sample(prompts, n, seed=seed)
    return [one for candidates in written for one in candidates]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return max(time.perf_counter() - start, 1e-9)
