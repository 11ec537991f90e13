"""Store all candidates of a run, the pool, as Parquet parts that are whole or absent and carry their own hash.

A part is placed under its name in one step and carries the hash of its rows, so a killed writer leaves nothing
half-written, an edited part is found out, and several writers can share a folder: the first sound part of a name stays.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bestfor.data.schema import CANDIDATES, write
from bestfor.data.states import NO_CANDIDATES, with_text
from bestfor.errors import InputError
from bestfor.files import hash_json, hash_parts, link_first, sweep, write_text

PLAN = "plan.json"
NOTES = "notes.json"
SOME = "-some"
"""Suffix of the key of a part that holds the finished rows of an unfinished one."""
_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")


@dataclass(frozen=True)
class Problem:
    """Part of a pool that cannot be used.

    Attributes:
        path: its file.
        reason: what is wrong with it.
    """

    path: Path
    reason: str


class CandidatePool:
    """Pool of candidates in a folder.

    Args:
        folder: holds ``part-<key>.parquet`` and, where a policy samples, ``plan.json`` that names the parts in order.
            Parts outside the plan (of other settings, say) are kept and not read.

    Raises:
        InputError: the path is a file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(str(folder), "a file", "a folder")

    def plan(self, keys: Sequence[str], prompts: Mapping[str, int] | None = None) -> None:
        """Write down which parts the pool is made of.

        Args:
            keys: their names, in order.
            prompts: counts of what stands in the prompts, for the record.

        Raises:
            InputError: a key is not made of letters, digits, ``-`` and ``_``, or stands twice.
        """
        for key in keys:
            self.path(key)
        if len(set(keys)) < len(keys):
            raise InputError(str(self.folder), "a part that is planned twice", "distinct keys")
        record = {"prompts": dict(prompts)} if prompts else {}
        text = json.dumps({**record, "parts": list(keys)}, indent=1) + "\n"
        write_text(self.folder / PLAN, text, sync=False)

    @property
    def planned(self) -> tuple[str, ...]:
        """Keys of the pool's parts: the plan's, or those of all parts where there is no plan.

        Raises:
            InputError: the plan cannot be read.
        """
        plan = self._plan()
        return tuple(_key(part) for part in self._parts()) if plan is None else plan[0]

    @property
    def prompts(self) -> dict[str, int]:
        """Counts of what stands in the prompts: queries, items_shown, items_dropped, prompts_with_dropped_items.

        Raises:
            InputError: the plan cannot be read.
        """
        plan = self._plan()
        return {} if plan is None else plan[1]

    def _plan(self) -> tuple[tuple[str, ...], dict[str, int]] | None:
        path = self.folder / PLAN
        if not path.is_file():
            return None
        try:
            plan = json.loads(path.read_text(encoding="utf-8"))
            prompts = {str(name): int(count) for name, count in plan.get("prompts", {}).items()}
            return tuple(str(key) for key in plan["parts"]), prompts
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(str(path), "an unreadable plan", "one written by generate: run it again") from error

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the pool's candidates for a reader of the results, as :meth:`note` left them."""
        try:
            held = json.loads((self.folder / NOTES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ()
        return tuple(map(str, held)) if isinstance(held, list) else ()

    def note(self, notes: Sequence[str]) -> None:
        """Write down what a reader of the results should know, in the place of earlier notes."""
        if notes or (self.folder / NOTES).is_file():
            write_text(self.folder / NOTES, json.dumps(list(notes), indent=1, ensure_ascii=False) + "\n", sync=False)

    def path(self, key: str) -> Path:
        """Give the path of a part.

        Raises:
            InputError: the key is not made of letters, digits, ``-`` and ``_``.
        """
        if not _KEY.fullmatch(key):
            raise InputError("key of a part", repr(key), "letters, digits, '-' and '_'")
        return self.folder / f"part-{key}.parquet"

    def append(self, table: pa.Table, *, key: str | None = None, replace: bool = False) -> str:
        """Add a part, unless a sound one of this name is there: then that one stays.

        Args:
            table: rows of schema ``CANDIDATES``.
            key: the part's name; by default the hash of its rows.
            replace: put it in the place of a sound one, in one step.

        Returns:
            The key.

        Raises:
            InputError: the rows are of another schema.
        """
        try:
            table = table.select(CANDIDATES.names).cast(CANDIDATES)
        except (KeyError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError("candidates", f"another schema ({reason})", ", ".join(CANDIDATES.names)) from error
        content = content_hash(table)
        key = key if key is not None else content[:16]
        path = self.path(key)
        if not replace and self._problem(path) is None:
            return key
        place = os.replace if replace else self._place
        write(table, path, {"bestfor.key": key, "bestfor.content": content}, place=place)
        return key

    def _place(self, fresh: Path, path: Path) -> None:
        """Give a part its name; the first sound one of a name stays."""
        if not link_first(fresh, path) and self._problem(path) is not None:
            os.replace(fresh, path)

    def read(self, key: str) -> pa.Table | None:
        """Read the rows of a part; None where it is absent, torn or edited."""
        table, reason = _read(self.path(key)) if self.path(key).is_file() else (None, "no file")
        return table if reason is None else None

    def discard(self, key: str) -> None:
        """Remove a part, if it is there."""
        self.path(key).unlink(missing_ok=True)

    def columns(self, key: str, names: Sequence[str]) -> pa.Table:
        """Read columns of a part that is known to be sound."""
        return pq.read_table(self.path(key), columns=list(names))

    def reopen(self, keys: Sequence[str]) -> None:
        """Make whole parts with refused queries unfinished again, so that these are asked once more."""
        for key in keys:
            table = self.read(key)
            if table is None or not len(_refused_rows(table)):
                continue
            there = pc.not_equal(table["finish_reason"], NO_CANDIDATES)  # pyright: ignore[reportAttributeAccessIssue]
            self.append(table.filter(there), key=key + SOME, replace=True)
            self.discard(key)

    def missing(self, keys: Sequence[str] | None = None) -> list[str]:
        """List keys, of the given or the planned ones, whose part is absent, torn or edited."""
        return [key for key in (self.planned if keys is None else keys) if self._problem(self.path(key)) is not None]

    def verify(self) -> list[Problem]:
        """List parts in the folder that are torn, edited or renamed; sampling again replaces only these."""
        found = ((part, self._problem(part)) for part in self._parts())
        return [Problem(part, reason) for part, reason in found if reason is not None]

    def scan(self, *, partial: bool = False) -> pa.Table:
        """Read all candidates that have a text, sorted by (query_id, candidate).

        Args:
            partial: take what is there of an unfinished pool.

        Raises:
            InputError: no candidates; a part is torn or edited; parts are missing; a candidate stands twice.
        """
        tables: list[pa.Table] = []
        planned = self.planned
        for key in planned:
            path = self.path(key)
            if partial and not path.is_file():
                path = self.path(key + SOME)
            if not path.is_file():
                continue
            table, reason = _read(path)
            if table is None or reason is not None:
                raise InputError(str(path), str(reason), "a part as it was written: generate again, only it is redone")
            tables.append(table)
        if len(tables) < len(planned) and not partial:
            found = f"{len(tables)} of {len(planned)} parts"
            raise InputError(str(self.folder), found, "a finished pool: generate again, only the rest is sampled")
        if not tables:
            raise InputError(str(self.folder), "no candidates", "at least one part")
        rows = pa.concat_tables(tables).sort_by([("query_id", "ascending"), ("candidate", "ascending")])
        return with_text(_distinct(rows, self.folder))

    @property
    def digest(self) -> str:
        """Hash of the planned parts' own hashes, in order: what later steps depend on.

        Raises:
            InputError: a part is missing, torn or edited.
        """
        return hash_parts(self._content(self.path(key)) for key in self.planned)

    def _content(self, path: Path) -> bytes:
        """Read the hash of its rows that a sound part carries."""
        reason = self._problem(path)
        if reason is not None:
            raise InputError(str(path), reason, "a part as it was written: generate again, only it is redone")
        return (pq.read_schema(path).metadata or {})[b"bestfor.content"]

    def sweep(self) -> None:
        """Remove unfinished files that killed writers have left."""
        sweep(self.folder)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _problem(self, path: Path) -> str | None:
        return _read(path)[1] if path.is_file() else "no file"


def content_hash(table: pa.Table) -> str:
    """Hash a table's rows by sha256, whatever file they lie in."""
    return hash_json([[name, table.column(name).to_pylist()] for name in table.column_names], separators=(",", ":"))


def _read(path: Path) -> tuple[pa.Table | None, str | None]:
    """Read a part's rows; beside them the reason where it cannot be used, else None."""
    try:
        # Bytes first, so that a file that is replaced meanwhile is read as one or the other.
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        return None, f"a torn part ({(str(error).strip().splitlines() or ['unreadable'])[0]})"
    metadata = table.schema.metadata or {}
    if metadata.get(b"bestfor.key") != _key(path).encode():
        return None, "a part under another name than it was written with"
    if table.schema.remove_metadata() != CANDIDATES:
        return None, "a part of another schema"
    if metadata.get(b"bestfor.content") != content_hash(table).encode():
        return None, "rows that were edited"
    return table.replace_schema_metadata(None), None


def _refused_rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["finish_reason"], NO_CANDIDATES))  # pyright: ignore[reportAttributeAccessIssue]


def _key(path: Path) -> str:
    return path.name.removeprefix("part-").removesuffix(".parquet")


def _distinct(rows: pa.Table, folder: Path) -> pa.Table:
    last: tuple[str, int] | None = None
    for pair in zip(rows["query_id"].to_pylist(), rows["candidate"].to_pylist(), strict=True):
        if pair == last:
            raise InputError(str(folder), f"candidate {pair[1]} of query '{pair[0]}' twice", "one row a candidate")
        last = pair
    return rows
