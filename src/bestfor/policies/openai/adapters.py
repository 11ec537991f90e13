"""Ask llama.cpp's server for users' own adapters: which it has loaded, and the field of a request that applies one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestfor.errors import InputError
from bestfor.files import read_object

USERS = "users.json"
"""Says whose each file of a folder of adapters in GGUF is."""


@dataclass(frozen=True)
class ServedAdapters:
    """Users' adapters in GGUF, a folder as :func:`bestfor.policies.adapters.export_gguf` leaves it.

    Attributes:
        folder: of the files.
        files: the file of each user.
        digest: a hash of the adapters that they were made of.
    """

    folder: Path
    files: Mapping[str, str]
    digest: str

    @classmethod
    def read(cls, folder: Path) -> ServedAdapters:
        """Read a folder's index.

        Raises:
            InputError: no such folder, or a file that it names is absent.
        """
        made = "adapters in GGUF as 'bestfor models export-adapters' writes them"
        index = read_object(folder / USERS, "files", made, made)
        if not isinstance(index["files"], dict):
            raise InputError(str(folder / USERS), f"'files' of type {type(index['files']).__name__}", made)
        files = {str(user): str(name) for user, name in index["files"].items()}
        for name in sorted(set(files.values())):
            if Path(name).name != name or not (folder / name).is_file():
                raise InputError(str(folder), f"no file '{name}'", made)
        return cls(folder, files, str(index.get("adapters", "")))

    @property
    def paths(self) -> tuple[str, ...]:
        """Files in the order in which a server of our own loads them."""
        return tuple(str((self.folder / name).resolve()) for name in sorted(set(self.files.values())))

    def field(self, user: str, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
        """Make the field ``lora`` of a request; for a user without an adapter it says that none is applied.

        Args:
            user: whose request it is.
            numbers: the server's number of each file.

        Raises:
            InputError: the server has not loaded the user's file.
        """
        name = self.files.get(user)
        if name is None:
            # An empty list would be taken for none, and the server's own scales for what is wanted.
            return [{"id": number, "scale": 0.0} for number in sorted(numbers.values())]
        if name not in numbers:
            raise InputError("adapters", f"a server that has not loaded {name}", f"the files of {self.folder} (--lora)")
        return [{"id": numbers[name], "scale": 1.0}]
