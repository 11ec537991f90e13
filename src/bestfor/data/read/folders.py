"""List the Parquet files of a folder that together are one table."""

from __future__ import annotations

import os
from pathlib import Path

from bestfor.errors import InputError

ENDINGS = (".parquet", ".pq")


def parts_of(folder: Path) -> list[Path]:
    """List the Parquet files beneath a folder in the order of their names.

    Names that begin with ``.`` or ``_`` are left out, as other readers of such folders do: writers put what is not
    complete there.

    Raises:
        InputError: there is none, or the folder cannot be read.
    """
    kept = _parts(folder)
    if not kept:
        raise InputError(str(folder), "a folder without Parquet files", "a table, or a folder of Parquet files")
    return kept


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder; unlike ``Path.is_dir``, no error for a name that cannot be one."""
    return os.path.isdir(path)


def has_parts(folder: Path) -> bool:
    """Tell whether a folder holds Parquet files."""
    return bool(_parts(folder))


def _parts(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()]
    except OSError as error:
        raise InputError(str(folder), f"what cannot be read ({error.strerror})", "a folder of Parquet files") from error
    named = {path.relative_to(folder).parts: path for path in found}
    return [path for names, path in sorted(named.items()) if not any(name.startswith((".", "_")) for name in names)]
