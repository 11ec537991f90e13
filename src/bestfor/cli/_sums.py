"""Parts of a diagnosis of a folder: sums that several commands leave, and the one that puts them together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bestfor.cli._output import tell
from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.backends import Backend
    from bestfor.backends.kept import Kept
    from bestfor.backends.parts import WorkPart
    from bestfor.diagnostics import Diagnosis, Settings
    from bestfor.runs.table import TableColumns
    from bestfor.types import Scale


def diagnosed_in_parts(
    table: Path, columns: TableColumns, settings: Settings, scale: Scale, part: WorkPart | None, worker: Backend | None
) -> Diagnosis | None:
    """Diagnose a table, or do a part of the diagnosis of a folder.

    Args:
        table: a file or a folder.
        columns: its columns.
        settings: how.
        scale: of the rewards.
        part: which part; None does all, and starts from the sums that parts left.
        worker: who does the tasks.

    Returns:
        The diagnosis; None after a part.

    Raises:
        InputError: as :func:`~bestfor.runs.table.diagnose_table`, or a part of what has none.
    """
    from bestfor.backends.kept import PartEndsError
    from bestfor.runs.table import diagnose_table

    kept = _kept(table, columns, settings, scale, part, worker)
    try:
        found = diagnose_table(table, columns, settings, scale=scale, backend=kept or worker)
    except PartEndsError as end:
        then = f"awaits the parts {end.awaited}; then the same command goes on" if end.awaited else "is done"
        tell(f"part {part} {then}")
        return None
    finally:
        if worker is not None:
            worker.close()
    if part is not None:
        expected = "a folder of over 500,000 rows with each query in one of its parts, no --text-id and no --std"
        raise InputError("--part", "a table that is diagnosed as a whole", expected)
    if kept is not None:
        shutil.rmtree(kept.folder, ignore_errors=True)
    return found


def _kept(
    table: Path,
    columns: TableColumns,
    settings: Settings,
    scale: Scale,
    part: WorkPart | None,
    worker: Backend | None,
) -> Kept | None:
    """Keep sums within the folder, where readers of its parts do not look; None where none are there or wanted."""
    from bestfor.backends import Local
    from bestfor.backends.kept import Kept
    from bestfor.data.read.folders import has_parts, is_folder, parts_of
    from bestfor.files import hash_json
    from bestfor.version import __version__

    if not is_folder(table) or not has_parts(table):
        return None
    states = [(path, path.stat()) for path in parts_of(table)]
    files = [[path.relative_to(table).as_posix(), state.st_size, state.st_mtime_ns] for path, state in states]
    named = repr(columns), repr(replace(settings, name="")), scale
    folder = table / f".sums-{hash_json([__version__, files, named])[:16]}"
    if part is None and not folder.is_dir():
        return None
    return Kept(folder, part, inner=worker or Local())
