"""Do the steps of a run: each is skipped where inputs are unchanged and files are whole, and redone otherwise.

A step leaves a stamp: the hash of its inputs, of each input by itself (so that it can be said which one changed), and
of its files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bestfor.files import hash_json, hash_tree, labelled, write_json


def digest(value: object) -> str:
    """Hash anything that JSON can hold, or that can be written as a string; equal values give equal hashes."""
    return labelled(hash_json(value, separators=(",", ":"), ensure_ascii=False, default=str))


OWED = "owed:"
"""Start of what stands for the hash of a step that is only foreseen; the step's name follows."""


@dataclass(frozen=True)
class ForeseenStep:
    """Step of a run as it stands now.

    Attributes:
        name: the step.
        owed: whether it has to be done.
        why: why it has to be; empty where it is done.
    """

    name: str
    owed: bool
    why: str = ""


@dataclass(frozen=True)
class Steps:
    """Runner of the steps of one run folder.

    Attributes:
        folder: the run folder; stamps lie in its ``.steps``.
        tell: called with one line for each step that runs or is skipped.
        foresee: do nothing, write nothing and note in ``foreseen`` what would be done.
        foreseen: the steps, in order, where they are only foreseen.
    """

    folder: Path
    tell: Callable[[str], None]
    foresee: bool = False
    foreseen: list[ForeseenStep] = field(default_factory=list)

    def run(self, name: str, inputs: Mapping[str, Any], outputs: Sequence[str], work: Callable[[], None]) -> str:
        """Do a step unless it is done already.

        Args:
            name: the step's name, for its stamp and for people.
            inputs: everything that decides its result.
            outputs: files or folders, relative to the run folder, that it leaves.
            work: does it.

        Returns:
            The hash of what it left: the input of later steps. Where steps are only foreseen and this one is owed,
            ``OWED`` and its name.
        """
        left = self.left(name, inputs, outputs)
        if self.foresee:
            self.foreseen.append(ForeseenStep(name, not left, "" if left else self.reason(name, inputs, outputs)))
            return left or OWED + name
        if left:
            self.tell(f"{name}: already there")
            return left
        self.tell(name)
        work()
        made = self.hash(outputs)
        self._write(name, inputs, made)
        return made

    def explain(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Keep the hashes of the inputs of work that has a record of its own, so that changes can be told."""
        if not self.foresee:
            self._write(name, inputs, "")

    def _write(self, name: str, inputs: Mapping[str, Any], made: str) -> None:
        stamp = {"inputs": digest(dict(inputs)), "outputs": made, "each": _each(inputs)}
        write_json(self._stamp(name), stamp, sync=False)

    def reason(self, name: str, inputs: Mapping[str, Any], outputs: Sequence[str]) -> str:
        """Say why a step is owed: it was never done, an input is another one, or a file is not as it was left.

        Args:
            name: as for :meth:`run`.
            inputs: likewise; values that start with ``OWED`` are steps that are owed themselves.
            outputs: likewise.
        """
        stamp = _read_stamp(self._stamp(name))
        if not stamp:
            return "never done"
        if stamp.get("inputs") == digest(dict(inputs)):
            absent = [output for output in outputs if not (self.folder / output).exists()]
            return f"{absent[0]} is not there" if absent else f"{' or '.join(outputs)} was changed since"
        before, now = stamp.get("each"), _each(inputs)
        after = [value[len(OWED) :] for value in inputs.values() if isinstance(value, str) and value.startswith(OWED)]
        if not isinstance(before, dict):
            return f"after {after[0]}" if after else "an input is another one"
        follows = {key for key, value in inputs.items() if isinstance(value, str) and value.startswith(OWED)}
        keys = [key for key in sorted({*before, *now} - follows) if before.get(key) != now.get(key)]
        return ", ".join([*(f"{_INPUTS.get(key, key)} changed" for key in keys), *(f"after {one}" for one in after)])

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


_INPUTS = {"version": "bestfor's version", "measured": "candidates or utilities", "model": "the fitted model"}
"""How some inputs are called; the others by their keys."""


def _each(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Hash each input by itself, one in a table of options by the option's name."""
    found: dict[str, str] = {}
    for key, value in inputs.items():
        if isinstance(value, Mapping) and value:
            found |= {f"{key}.{name}": digest(one)[:23] for name, one in value.items()}
        elif not isinstance(value, Mapping):
            found[key] = digest(value)[:23]
    return found


def _read_stamp(path: Path) -> dict[str, Any]:
    # A stamp that cannot be read is a step that has to be done again, nothing worse.
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}
