"""Encode texts that a cache lacks by a backend: workers hold the encoder, vectors come back into the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bestfor.backends import Backend, Plan, PlanTask, Recipe
from bestfor.encoders.base import Encoder
from bestfor.encoders.batches import Vectors
from bestfor.encoders.cache import CachedEncoder
from bestfor.encoders.names import JOIN
from bestfor.encoders.sentence import load_encoder
from bestfor.errors import InputError
from bestfor.progress import Progress

BLOCK = 512
"""Texts of a task."""


def encode_absent(
    backend: Backend,
    name: str,
    cache: Path | None,
    texts: Sequence[str],
    *,
    tell: Callable[[str], None] | None = None,
) -> int:
    """Encode those texts that a cache lacks, by a backend.

    Args:
        backend: who encodes.
        name: of the encoder, as :func:`bestfor.encoders.load_encoder` takes it; the parts of a joined one one by one.
        cache: folder for embeddings, as there.
        texts: equal ones are encoded once.
        tell: called with lines that say how far it is.

    Returns:
        How many were encoded.

    Raises:
        InputError: as :func:`load_encoder`; or a worker has another encoder of this name.
    """
    return sum(_encode_absent(backend, one, cache, texts, tell) for one in _names(name))


def count_absent(name: str, cache: Path | None, texts: Sequence[str]) -> int:
    """Count the texts that a cache lacks, each once for every part of a joined encoder; arguments as above."""
    return sum(len(load_encoder(one, cache=cache).missing(texts)) for one in _names(name))


def _names(name: str) -> list[str]:
    return [name] if Path(name).exists() else [one.strip() for one in name.split(JOIN)]


def _encode_absent(
    backend: Backend, name: str, cache: Path | None, texts: Sequence[str], tell: Callable[[str], None] | None
) -> int:
    encoder = load_encoder(name, cache=cache)
    absent = encoder.missing(texts)
    plan = Plan(f"encoder '{name}'", _encoded, _tasks(absent), Recipe(_opened, (name, cache)), portable=True)
    with Progress(f"texts by '{name}'", len(absent), tell=tell, after=2.0) as shown:
        for task, (signature, vectors) in backend.run(plan):
            if signature != encoder.signature:
                found = f"one of signature {signature[:16]} at a worker"
                raise InputError(f"encoder '{name}'", found, f"the same everywhere ({encoder.signature[:16]})")
            encoder.put(task.inputs[0], vectors)
            shown.advance(len(vectors))
    return len(absent)


def _tasks(texts: Sequence[str]) -> Iterator[PlanTask]:
    for start in range(0, len(texts), BLOCK):
        yield PlanTask(str(start), (texts[start : start + BLOCK],))


def _opened(name: str, cache: Path | None) -> CachedEncoder:
    return load_encoder(name, cache=cache)


def _encoded(cached: CachedEncoder, texts: Sequence[str]) -> tuple[str, Vectors]:
    # Past the cache: its folder is that of the asking process.
    encoder: Encoder = cached.encoder
    return encoder.signature, encoder.encode(texts)
