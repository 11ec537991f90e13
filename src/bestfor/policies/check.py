"""Check a policy's class and what it writes: what is missing or wrong is one line that names the class."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from bestfor.errors import InputError
from bestfor.policies.base import Prompt, Sampled


def check_policy(policy: Any) -> None:  # noqa: ANN401 - somebody's object
    """Refuse an object that is no policy; its signature, which may read weights, is not asked for.

    Raises:
        InputError: it has no name, chunk, signature or ``sample``.
    """
    where = f"policy '{type(policy).__qualname__}'"
    name, chunk = getattr(policy, "name", None), getattr(policy, "chunk", None)
    if not isinstance(name, str) or not name:
        raise InputError(where, "no 'name'" if name is None else f"name {name!r}", "what tables of candidates say")
    if not isinstance(chunk, int) or chunk < 1:
        found = "no 'chunk'" if chunk is None else f"chunk {chunk!r}"
        raise InputError(where, found, "how many queries are sampled together, 1 or more")
    if inspect.getattr_static(policy, "signature", None) is None:
        raise InputError(
            where, "no 'signature'", "a property: a dictionary of plain values, all that decides its texts"
        )
    if not any(hasattr(policy, method) for method in ("sample", "complete")):
        raise InputError(where, "no 'sample'", "a method sample(prompts, n, *, seed) with n candidates for each prompt")


def check_written(policy: Any, prompts: Sequence[Prompt], n: int, written: object) -> list[list[Sampled]]:  # noqa: ANN401 - a policy
    """Candidates of prompts, if they are what a policy promises.

    Args:
        policy: wrote them.
        prompts: what it was asked.
        n: candidates of each.
        written: what it returned.

    Raises:
        InputError: not a list of n :class:`Sampled` for each prompt, or one without a text.
    """
    where = f"policy '{type(policy).__qualname__}'"
    if not isinstance(written, Sequence) or len(written) != len(prompts):
        count = len(written) if isinstance(written, Sequence) else type(written).__name__
        raise InputError(where, f"{count} from sample", f"{len(prompts)} lists, one for each prompt")
    for prompt, candidates in zip(prompts, written, strict=True):
        place = f"{where}, query '{prompt.query_id}'"
        if not isinstance(candidates, Sequence) or len(candidates) != n:
            many = len(candidates) if isinstance(candidates, Sequence) else type(candidates).__name__
            raise InputError(place, f"{many} candidates", str(n))
        for one in candidates:
            if not isinstance(one, Sampled) or not isinstance(one.text, str) or not isinstance(one.finish_reason, str):
                found = f"a candidate of type {type(one).__name__}" if not isinstance(one, Sampled) else repr(one)[:80]
                raise InputError(place, found, "Sampled(text, tokens, logprob, finish_reason)")
            if one.logprob is not None and not math.isfinite(one.logprob):
                raise InputError(place, f"logprob {one.logprob}", "a finite number, or None where it is unknown")
    return list(written)
