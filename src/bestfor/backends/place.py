"""Keep a run's folder in a shared place that fsspec can reach (S3, GCS, a mounted path) for machines without one.

Work is done in a local folder. What others left in the place is fetched before it, what was made is put there while it
goes on and at its end. Files are written whole and named by what they hold or checked by a step's hash, so whichever
copy of a file wins is a sound one. There is no lock in such a place: two machines that do the same work do it twice.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bestfor.errors import BestforError, InputError
from bestfor.extras import require
from bestfor.files import HOST, unfinished, write_json, writing

RECORD = Path(".steps") / "place.json"
"""What is known to be in the place, by file: its mark there, and size and time of the copy here."""
_NAMED = re.compile(r"[A-Za-z][\w+.-]*://.*[^/:].*|/.+")
EVERY = 30.0
"""Seconds between two puts while work goes on."""


class Place:
    """Shared place of a run's folder.

    Args:
        url: as fsspec takes it, such as ``s3://bucket/run`` or ``file:///mnt/runs/mine``.
        folder: the run's, here.

    Raises:
        InputError: no such kind of place, or its package is not installed.
        MissingExtraError: fsspec is not.
    """

    def __init__(self, url: str, folder: Path) -> None:
        fsspec = require("fsspec", "place")
        self.url, self.folder = url.rstrip("/"), folder
        if not _NAMED.fullmatch(self.url):
            raise InputError("[backend] place", f"'{url}'", "a URL of fsspec, such as s3://bucket/run, or /a/path")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            expected = "a URL of fsspec, such as s3://bucket/run, with its package installed (s3fs, gcsfs)"
            raise InputError("[backend] place", f"'{url}' ({error})", expected) from error
        self._lock = threading.Lock()

    def check(self) -> None:
        """Write a file into the place and remove it, so that work begins only where its results can be put.

        Raises:
            BestforError: the place does not take it.
        """
        with self._lock, self._worded("written"):
            target = f"{self._root}/.check.{HOST}.{os.getpid()}.partial"
            if getattr(self._files, "local_file", False):
                self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(target, b"bestfor")
            self._files.rm_file(target)

    def fetch(self) -> int:
        """Fetch what the place has and this folder lacks, or has in an older copy; returns how many files.

        Raises:
            BestforError: the place does not answer.
        """
        with self._lock, self._worded("read"):
            known, there, count = self._known(), self._there(), 0
            for name, mark in there.items():
                path = self.folder / name
                before = known.get(name)
                if path.is_file() and (before is None or before[0] == mark or _state(path) != before[1:]):
                    continue
                with writing(path, sync=False) as partial:
                    self._files.get_file(f"{self._root}/{name}", str(partial))
                known[name] = [mark, *_state(path)]
                count += 1
            self._remember(known)
            return count

    def put(self) -> int:
        """Put what this folder has and the place lacks, or has in another copy; returns how many files.

        Raises:
            BestforError: the place does not answer.
        """
        with self._lock, self._worded("written"):
            known, count = self._known(), 0
            for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
                name = path.relative_to(self.folder)
                if name == RECORD or any(unfinished(part) for part in name.parts):
                    continue
                count += self._put_one(name.as_posix(), path, known)
            for name in [name for name in known if not (self.folder / name).is_file()]:
                with suppress(FileNotFoundError):
                    self._files.rm_file(f"{self._root}/{name}")
                del known[name]
            self._remember(known)
            return count

    def _put_one(self, name: str, path: Path, known: dict[str, list[Any]]) -> bool:
        try:
            state = _state(path)
            if name in known and known[name][1:] == state:
                return False
            target = f"{self._root}/{name}"
            if getattr(self._files, "local_file", False):
                # A copy into a mounted folder is not whole at once; a rename there is.
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                with writing(Path(target), sync=False) as partial:
                    self._files.put_file(str(path), str(partial))
            else:
                self._files.put_file(str(path), target)
        except FileNotFoundError:
            if path.is_file():
                raise
            return False  # replaced or removed while it was read: the next put sees what became of it
        known[name] = [_mark(self._files.info(target)), *state]
        return True

    def _there(self) -> dict[str, str]:
        self._files.invalidate_cache()
        try:
            found = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        start = len(str(self._root).rstrip("/")) + 1
        named = {str(path)[start:]: _mark(info) for path, info in found.items()}
        return {name: mark for name, mark in named.items() if name and not unfinished(name.rpartition("/")[2])}

    def _known(self) -> dict[str, list[Any]]:
        try:
            held = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return held.get("files", {}) if isinstance(held, dict) and held.get("place") == self.url else {}

    def _remember(self, known: dict[str, list[Any]]) -> None:
        if known:
            write_json(self.folder / RECORD, {"place": self.url, "files": known}, sync=False)

    @contextmanager
    def _worded(self, what: str) -> Iterator[None]:
        """Say in one line what a library of a place says in its own way.

        Raises:
            BestforError: instead of it.
        """
        try:
            yield
        except (BestforError, KeyboardInterrupt):
            raise
        except Exception as error:  # each kind of place has errors of its own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            expected = "a place that answers; what is here is kept, and the same command goes on"
            raise InputError("[backend] place", f"'{self.url}', which cannot be {what} ({reason})", expected) from error


@contextmanager
def kept_in(place: Place | None) -> Iterator[None]:
    """Fetch a run's folder from its place, and put it there every half minute and when the block ends."""
    if place is None:
        yield
        return
    place.check()
    place.fetch()
    ended = threading.Event()

    def often() -> None:
        while not ended.wait(EVERY):
            with suppress(BestforError):  # the last put says what is wrong
                place.put()

    thread = threading.Thread(target=often, name="bestfor-place", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        place.put()


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _mark(info: dict[str, Any]) -> str:
    """Name the version of a file in a place, by what its kind of place knows."""
    version = next((info[name] for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if info.get(name)), "")
    return f"{info.get('size')} {version}"
