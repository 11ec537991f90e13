"""Do the steps of a run: each is skipped where inputs are unchanged and files are whole, and redone otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.files import hash_json, hash_tree, labelled, write_json


def digest(value: object) -> str:
    """Hash anything that JSON can hold, or that can be written as a string; equal values give equal hashes."""
    return labelled(hash_json(value, separators=(",", ":"), ensure_ascii=False, default=str))


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
        left = self.left(name, inputs, outputs)
        if left:
            self.tell(f"{name}: already there")
            return left
        self.tell(name)
        work()
        made = self.hash(outputs)
        write_json(self._stamp(name), {"inputs": digest(dict(inputs)), "outputs": made}, sync=False)
        return made

    def left(self, name: str, inputs: Mapping[str, Any], outputs: Sequence[str]) -> str:
        """Give the hash of what a step left, "" where it has to be done; arguments as for :meth:`run`."""
        stamp = _read_stamp(self._stamp(name))
        done = stamp.get("inputs") == digest(dict(inputs)) and stamp.get("outputs", "") == self.hash(outputs)
        return stamp["outputs"] if done else ""

    def hash(self, outputs: Sequence[str]) -> str:
        """Hash files or folders of the run folder; "" where one is not there."""
        return labelled(hash_tree([self.folder / output for output in outputs]))

    def _stamp(self, name: str) -> Path:
        return self.folder / ".steps" / f"{name.replace('/', '.')}.json"


def _read_stamp(path: Path) -> dict[str, str]:
    # A stamp that cannot be read is a step that has to be done again, nothing worse.
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
