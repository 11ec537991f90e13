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
        stamp = self.folder / ".steps" / f"{name.replace('/', '.')}.json"
        paths = [self.folder / output for output in outputs]
        wanted = digest(dict(inputs))
        left = _read_stamp(stamp)
        if left.get("inputs") == wanted and left.get("outputs") and left["outputs"] == labelled(hash_tree(paths)):
            self.tell(f"{name}: already there")
            return left["outputs"]
        self.tell(name)
        work()
        made = labelled(hash_tree(paths))
        write_json(stamp, {"inputs": wanted, "outputs": made}, sync=False)
        return made


def _read_stamp(path: Path) -> dict[str, str]:
    # A stamp that cannot be read is a step that has to be done again, nothing worse.
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
