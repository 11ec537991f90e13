"""Write files and folders in one step, hash them, and sweep away what writers that were killed have left.

A file is written under a name of its own beside its place, ``.NAME.HOST.PROCESS.partial`` (``.tTHREAD`` after the name
in a thread that is not the main one), and then renamed: whoever reads the place finds the file as it was or as it is,
never half of it. The process id in the name tells :func:`sweep` whether the writer still runs.

Hashes are SHA-256 in hexadecimal digits. They are keys of caches and stamps on disk, so a formula never changes.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bestfor.errors import InputError

try:
    import fcntl
except ImportError:  # no such locks on this system: whoever asks for one does without
    fcntl = None

Place = Callable[[Path, Path], None]
"""Gives a complete file its name: takes the partial path and the final one."""

HOST = f"h{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]}"
"""Names this machine in partial files: a process id says nothing on another one that shares the folder."""
ABANDONED = 86400.0
"""Seconds after which a partial file of another machine is left over."""
_LEFT = re.compile(
    r"\.(?:.+?(?:\.(?P<host>h[0-9a-f]{8}))?\.(?P<process>\d+)\.partial(?:\.\w+)?|part-[0-9A-Za-z_-]+\.(?P<old>\d+))"
)
_LEFT_UNSIGNED = re.compile(r"\..+\.safetensors\.partial|\.adapters\.json\.partial|resume\.partial")
"""Names of left-overs without a process id, by versions that had one writer a folder."""


@contextmanager
def writing(path: Path, *, sync: bool = True, place: Place = os.replace) -> Iterator[Path]:
    """Give a partial path to write; the file gets its name when the block ends, and is removed where the block fails.

    Args:
        path: the final path; its folder is made.
        sync: whether the bytes are forced to the disk before the file gets its name.
        place: gives the file its name; by default in the place of one that is there.

    Yields:
        The partial path, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        yield partial
        if sync:
            with partial.open("rb") as handle:
                os.fsync(handle.fileno())
        place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, payload: bytes, *, sync: bool = True) -> None:
    """Write a file that is either whole or as before; see :func:`writing`."""
    with writing(path, sync=sync) as partial:
        partial.write_bytes(payload)


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text as UTF-8, with line ends as they are; see :func:`writing`."""
    write_bytes(path, text.encode(), sync=sync)


def write_json(path: Path, value: object, *, sync: bool = True) -> None:
    """Write a JSON value, a line for each of its parts; NaN is refused; see :func:`writing`.

    Raises:
        ValueError: NaN or an infinity.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", sync=sync)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of the one that is there when the block ends.

    Yields:
        The partial folder, beside the final one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, before = _partial(path), _partial(path.with_name(f"{path.name}.before"))
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        # A folder that is not empty cannot be replaced: the old one steps aside, and goes afterwards.
        if path.exists():
            path.rename(before)
        partial.rename(path)
    finally:
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)


def link_first(partial: Path, path: Path) -> bool:
    """Give a file its name unless one of that name is there; of several writers the first wins.

    Where the file system knows no hard links the last one wins: a rename is as whole.

    Returns:
        Whether the file was placed.
    """
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError:
        os.replace(partial, path)
    return True


def sweep(folder: Path) -> None:
    """Remove partial files and folders of writers that were killed, at any depth; those of living ones stay."""
    for path in sorted(folder.rglob("*part*")):
        signed = _LEFT.fullmatch(path.name)
        if signed is None and _LEFT_UNSIGNED.fullmatch(path.name) is None:
            continue
        if signed is not None and _writes_still(path, signed["host"], int(signed["process"] or signed["old"])):
            continue
        _remove(path)


def sweep_beside(path: Path) -> None:
    """Remove what writers of this one file or folder that were killed have left beside it."""
    for left in sorted(path.parent.glob(f".{glob.escape(path.name)}.*.partial")):
        signed = _LEFT.fullmatch(left.name)
        if signed is not None and not _writes_still(left, signed["host"], int(signed["process"])):
            _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def unfinished(name: str) -> bool:
    """Tell whether a file of this name is one that is being written, or was left by a writer that was killed."""
    return _LEFT.fullmatch(name) is not None or _LEFT_UNSIGNED.fullmatch(name) is not None


def _writes_still(path: Path, host: str | None, process: int) -> bool:
    if host in (None, HOST):
        return alive(process)
    try:
        return time.time() - path.stat().st_mtime < ABANDONED
    except FileNotFoundError:
        return False


def alive(process: int) -> bool:
    """Check whether a process of this id runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def hold(folder: Path, *, alone: bool = False, wait: bool = False) -> int | None:
    """Lock a folder against those who would lock it otherwise; several may share a lock that nobody holds alone.

    Locks are advisory, between processes and within one, and go with the process. Where a file system has none, every
    lock is granted.

    Args:
        folder: an existing folder.
        alone: whether nobody else may hold it.
        wait: whether to wait until the lock can be had.

    Returns:
        An open file descriptor, which holds the lock until it is closed; None where somebody else holds the folder.

    Raises:
        FileNotFoundError: there is no such folder, or it was removed before the lock was had.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            mode = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            fcntl.flock(handle, mode if wait else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    if not folder.is_dir() or not os.path.samestat(os.fstat(handle), folder.stat()):
        os.close(handle)
        raise FileNotFoundError(folder)
    return handle


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone while the block runs, after others who hold it so have ended; see :func:`hold`."""
    handle = hold(folder, alone=True, wait=True)
    try:
        yield
    finally:
        if handle is not None:
            # Said, not just closed: a process that was forked meanwhile has a copy of the descriptor.
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


@contextmanager
def locked_anew(folder: Path) -> Iterator[Path]:
    """Make a folder and hold it alone while the block runs, which may remove it; whoever waited makes it once more."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder)
        try:
            lock.__enter__()
            break
        except FileNotFoundError:
            continue
    try:
        yield folder
    finally:
        lock.__exit__(None, None, None)


def remove_unheld(folder: Path) -> bool:
    """Remove a folder unless somebody holds it; see :func:`hold`.

    Returns:
        Whether it is gone.
    """
    try:
        handle = hold(folder, alone=True)
    except FileNotFoundError:
        return True
    if handle is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
    return True


def read_object(path: Path, key: str, what: str, missing: str) -> dict[str, Any]:
    """Read the JSON object of a file.

    Args:
        path: of the file.
        key: that the object has.
        what: it is, for errors, such as ``"a diagnosis"``.
        missing: what is expected where there is no file.

    Raises:
        InputError: no file, no JSON, or an object without the key.
    """
    if not path.is_file():
        raise InputError(str(path), "no file", missing)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), f"what is not JSON ({error})", what) from error
    if not isinstance(found, dict) or key not in found:
        raise InputError(str(path), f"JSON without '{key}'", what)
    return found


def hash_bytes(payload: bytes) -> str:
    """Hash some bytes."""
    return hashlib.sha256(payload).hexdigest()


def hash_text(text: str) -> str:
    """Hash a text's UTF-8 bytes."""
    return hash_bytes(text.encode())


def hash_parts(parts: Iterable[bytes]) -> str:
    """Hash bytes that come in parts as if they were one after the other."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def hash_json(
    value: object,
    *,
    separators: tuple[str, str] | None = None,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """Hash a JSON value: equal values give equal hashes, whatever the order of their keys.

    Args:
        value: what JSON can hold.
        separators: between items and after keys, as ``json.dumps`` takes them.
        ensure_ascii: whether other characters are written as escapes, which lone surrogates need.
        default: writes what JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=separators, ensure_ascii=ensure_ascii, default=default)
    return hash_text(text)


def hash_file(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_tree(paths: Sequence[Path]) -> str:
    """Hash the names and bytes of files, of folders those of every file beneath; "" where one is absent or empty."""
    total = hashlib.sha256()
    for path in paths:
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        if not files:
            return ""
        for file in files:
            if not file.is_file():
                return ""
            total.update(str(file.relative_to(path.parent)).encode() + b"\0")
            total.update(bytes.fromhex(hash_file(file)))
    return total.hexdigest()


def labelled(digest: str) -> str:
    """Name the algorithm before a hash, as signatures do; nothing before none."""
    return f"sha256:{digest}" if digest else ""


def _partial(path: Path) -> Path:
    # Threads of one process may write one file at the same time.
    thread = "" if threading.current_thread() is threading.main_thread() else f".t{threading.get_native_id()}"
    return path.with_name(f".{path.name}{thread}.{HOST}.{os.getpid()}.partial")
