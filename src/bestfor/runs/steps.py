"""Do the steps of a run: each is skipped where inputs are unchanged and files are whole, and redone otherwise."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.pool import alive


def digest(value: object) -> str:
    """A hash of anything that JSON can hold, the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is either whole or absent; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is either whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left half-written; those of living processes stay."""
    for path in folder.rglob(".*.partial"):
        process = path.name.removesuffix(".partial").rpartition(".")[2]
        if process.isdigit() and not alive(int(process)):
            path.unlink(missing_ok=True)


def tree_digest(paths: Sequence[Path]) -> str:
    """A hash of the files (folders: every file beneath), of their names and bytes; "" where one is absent."""
    total = hashlib.sha256()
    for path in paths:
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        if not files:
            return ""
        for file in files:
            if not file.is_file():
                return ""
            total.update(str(file.relative_to(path.parent)).encode() + b"\0")
            with file.open("rb") as handle:
                total.update(hashlib.file_digest(handle, "sha256").digest())
    return "sha256:" + total.hexdigest()


@dataclass(frozen=True)
class Steps:
    """Runner of the steps of one run folder.

    Attributes:
        folder: the run folder; stamps lie in its ``.steps``.
        tell: called with one line for each step that runs or is skipped.
    """

    folder: Path
    tell: Callable[[str], None]

    def run(self, name: str, inputs: Mapping[str, Any], outputs: Sequence[str], work: Callable[[], None]) -> str:
        """Do a step unless it is done already.

        Args:
            name: the step's name, for its stamp and for people.
            inputs: everything that decides its result.
            outputs: files or folders, relative to the run folder, that it leaves.
            work: does it.

        Returns:
            The hash of what it left: the input of later steps.
        """
        stamp = self.folder / ".steps" / f"{name.replace('/', '.')}.json"
        paths = [self.folder / output for output in outputs]
        wanted = digest(dict(inputs))
        left = _read_stamp(stamp)
        if left.get("inputs") == wanted and left.get("outputs") and left["outputs"] == tree_digest(paths):
            self.tell(f"{name}: already there")
            return left["outputs"]
        self.tell(name)
        work()
        made = tree_digest(paths)
        write_json(stamp, {"inputs": wanted, "outputs": made})
        return made


def _read_stamp(path: Path) -> dict[str, str]:
    # A stamp that cannot be read is a step that has to be done again, nothing worse.
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
