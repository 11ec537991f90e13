"""Cache embeddings by content: an equal text is encoded once, in this run and in the next.

On disk a cache is a folder per encoder signature with shards that are only ever added. A shard's name is the hash of
its bytes, so a torn or altered one is recognised and left aside: its texts are encoded again.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bestfor.errors import InputError
from bestfor.files import hash_bytes, write_bytes

if TYPE_CHECKING:
    from bestfor.encoders.base import Encoder

MEMORY_TEXTS = 200_000
MERGE_SHARDS = 32


class CachedEncoder:
    """Encoder behind a cache of embeddings.

    Args:
        encoder: the encoder behind.
        folder: where shards are kept; None keeps vectors in memory only.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None) -> None:
        self.encoder = encoder
        self.name, self.signature, self.dim = encoder.name, encoder.signature, encoder.dim
        self._folder = None if folder is None else folder / encoder.signature[:32]
        self._known: dict[bytes, npt.NDArray[np.float32]] | None = None
        self._written: list[Path] = []
        self.found_by: tuple[Callable[..., CachedEncoder], tuple[Any, ...]] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:  # noqa: ANN401 - as the protocol of copies has it
        """Go to another process as the call by which it was found, where there is one: it loads its own weights."""
        return super().__reduce_ex__(protocol) if self.found_by is None else self.found_by

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Encode texts, shape (n, dim); only texts never seen before reach the encoder, each once.

        Raises:
            InputError: the encoder's vectors are not finite.
        """
        known = self._memory()
        keys = [text_key(text) for text in texts]
        absent = sorted({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
        if absent:
            fresh = self.encoder.encode([text for _, text in absent])
            fresh = np.ascontiguousarray(fresh, dtype=np.float32)
            self._check([text for _, text in absent], fresh)
            new_keys = [key for key, _ in absent]
            self._keep(new_keys, fresh)
            if len(known) + len(absent) > MEMORY_TEXTS:
                known = {key: known[key] for key in set(keys) if key in known}
                self._known = known
            known.update(zip(new_keys, fresh, strict=True))
        if not keys:
            return np.zeros((0, self.dim), dtype=np.float32)
        # a stack of many rows takes three times as long
        return np.concatenate([known[key] for key in keys]).reshape(len(keys), -1)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """List texts, each once, whose embeddings are not kept: those that :meth:`encode` would encode."""
        known = self._memory()
        return [text for text in dict.fromkeys(texts) if text_key(text) not in known]

    def put(self, texts: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
        """Keep vectors that were made elsewhere.

        Args:
            texts: whose they are, none of them here yet.
            vectors: shape (n, dim).

        Raises:
            InputError: vectors that are not finite.
        """
        fresh, known = np.ascontiguousarray(vectors, dtype=np.float32), self._memory()
        self._check(list(texts), fresh)
        keys = [text_key(text) for text in texts]
        self._keep(keys, fresh)
        known.update(zip(keys, fresh, strict=True))

    def _check(self, texts: list[str], vectors: npt.NDArray[np.float32]) -> None:
        """Refuse vectors that are not finite: they would be kept, and break whatever is computed of them."""
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            text = textwrap.shorten(texts[bad[0]], 40, placeholder=" ...")
            found = f"NaN or infinite numbers in the vectors of {len(bad)} of {len(texts)} texts, such as '{text}'"
            raise InputError(f"encoder '{self.name}'", found, "finite vectors: whole weights, or another backend")

    def _keep(self, keys: list[bytes], vectors: npt.NDArray[np.float32]) -> None:
        if self._folder is None:
            return
        self._written.append(_write_shard(self._folder, keys, vectors))
        if len(self._written) > MERGE_SHARDS:
            parts = [_read_shard(shard, self.dim) for shard in self._written]
            known = {key: vector for part in parts if part is not None for key, vector in part.items()}
            _merge(self._folder, self._written, known)
            self._written = []

    def _memory(self) -> dict[bytes, npt.NDArray[np.float32]]:
        if self._known is None:
            self._known = {} if self._folder is None else _read_shards(self._folder, self.dim)
        return self._known


def text_key(text: str) -> bytes:
    """Hash a text to its key in the cache: SHA-256 of the UTF-8 bytes (lone surrogates are kept apart)."""
    return bytes.fromhex(hash_bytes(text.encode("utf-8", "surrogatepass")))


def _write_shard(folder: Path, keys: list[bytes], vectors: npt.NDArray[np.float32]) -> Path:
    payload = save({"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32).copy(), "vectors": vectors})
    path = folder / f"{hash_bytes(payload)}.safetensors"
    write_bytes(path, payload)
    return path


def _read_shards(folder: Path, dim: int) -> dict[bytes, npt.NDArray[np.float32]]:
    known: dict[bytes, npt.NDArray[np.float32]] = {}
    shards = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    sound: list[Path] = []
    for shard in shards:
        part = _read_shard(shard, dim)
        if part is not None:
            known.update(part)
            sound.append(shard)
    if len(sound) > MERGE_SHARDS:
        _merge(folder, sound, known)
    return known


def _merge(folder: Path, shards: list[Path], known: dict[bytes, npt.NDArray[np.float32]]) -> None:
    """Put one shard in the place of many; what it holds is on disk before they go."""
    if not known:
        return
    keys = sorted(known)
    merged = _write_shard(folder, keys, np.stack([known[key] for key in keys]))
    for shard in shards:
        if shard != merged:
            shard.unlink(missing_ok=True)


def _read_shard(shard: Path, dim: int) -> dict[bytes, npt.NDArray[np.float32]] | None:
    try:
        payload = shard.read_bytes()
        if hash_bytes(payload) != shard.stem:
            return None
        arrays = load(payload)
        keys, vectors = arrays["keys"], arrays["vectors"]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    if keys.shape != (len(vectors), 32) or vectors.shape[1:] != (dim,) or not np.isfinite(vectors).all():
        return None
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
