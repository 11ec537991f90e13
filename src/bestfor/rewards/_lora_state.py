"""What a fit leaves on disk while it goes on, so that one that was killed continues and ends with the same bytes.

A folder per identity (settings, data, base, seed, versions) with a safetensors file for each part of the work: its
tensors, and a JSON object in the header. A file is written in one step, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bestfor.artifacts import write_bytes
from bestfor.lm.adapters import NOTES

ADAPTERS = "adapters"

Tensors = dict[str, torch.Tensor]


class State:
    """Files of one fit.

    Args:
        root: folder of the states of all fits.
        identity: all that decides the result, as plain values.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = root / f"lora-{self.identity[:16]}"

    @property
    def adapters(self) -> Path:
        """Folder of the finished adapters."""
        return self.folder / ADAPTERS

    def get(self, name: str) -> tuple[Tensors, dict[str, Any]] | None:
        """Tensors and notes of a part; None where there is no whole file of this fit."""
        try:
            with safe_open(self._path(name), "pt") as opened:
                notes = json.loads((opened.metadata() or {})[NOTES])
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - no mapping
        except (OSError, ValueError, KeyError, SafetensorError):
            return None
        return (tensors, notes["notes"]) if notes.get("identity") == self.identity else None

    def put(self, name: str, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any]) -> None:
        """Write a part in the place of the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
        # One key: the order of several would differ from process to process.
        header = {NOTES: json.dumps({"identity": self.identity, "notes": notes}, sort_keys=True)}
        write_bytes(self._path(name), save(ready, header))

    def remove(self) -> None:
        """What was fitted has been saved elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
