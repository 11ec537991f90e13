"""Load Polis exports: votes of people on each other's statements.

A conversation is a folder with ``comments.csv`` (comment-id, author-id, moderated, timestamp, comment-body) and
``participants-votes.csv`` (participant, six counts, then one column per comment-id: -1 disagree, 0 pass, 1 agree,
empty where there was no vote).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from bestfor.data.read.tables import Columns, file_signature, read_table
from bestfor.data.split import Ratings
from bestfor.errors import InputError
from bestfor.files import hash_text, labelled

_COUNTS = ("participant", "group-id", "n-comments", "n-votes", "n-agree", "n-disagree")


def load_polis(path: str | Path) -> Ratings:
    """Load the votes on moderated statements, without votes on one's own.

    Args:
        path: the folder of an export.

    Returns:
        Ratings in {-1, 0, 1}; text ids are comment ids, user ids are participants.

    Raises:
        InputError: a missing folder, file or column, or a vote that is none of -1, 0, 1 (with row and column).
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(str(folder), "no folder", "a Polis export with comments.csv and participants-votes.csv")
    comments = _comments(folder / "comments.csv")
    participants, columns, votes = _votes(folder / "participants-votes.csv")
    position = {identity: i for i, identity in enumerate(comments["id"])}
    shown = [(column, position[name]) for column, name in enumerate(columns) if name in position]
    if not shown:
        raise InputError(str(folder), "no vote column of a moderated comment", "columns named by comment-id")
    kept = votes[:, [column for column, _ in shown]]
    comment = np.array([i for _, i in shown])
    author = np.array(comments["author"], dtype=object)[comment]
    own = np.array(participants, dtype=object)[:, None] == author[None, :]
    row, column = np.nonzero(np.isfinite(kept) & ~own)
    table = pa.table(
        {
            "user": pa.array(participants).take(pa.array(row)),
            "text": pa.array(comments["body"]).take(pa.array(comment[column])),
            "text_id": pa.array(comments["id"]).take(pa.array(comment[column])),
            "timestamp": pa.array(comments["timestamp"], pa.float64()).take(pa.array(comment[column])),
            "rating": pa.array(kept[row, column]),
        }
    )
    parts = [file_signature(folder / name) for name in ("comments.csv", "participants-votes.csv")]
    signature = labelled(hash_text("|".join(parts)))
    return Ratings.build(table, name=folder.name, source=str(folder), signature=signature)


def _comments(path: Path) -> dict[str, list]:
    columns = Columns(
        text={"id": "comment-id", "author": "author-id", "body": "comment-body"},
        number={"moderated": "moderated", "timestamp": "timestamp"},
    )
    table = read_table(path, columns)
    kept = table.filter(pa.array(table.column("moderated").to_numpy() == 1))
    if kept.num_rows == 0:
        raise InputError(str(path), "no comment with moderated = 1", "moderated comments")
    return {name: kept.column(name).to_pylist() for name in ("id", "author", "body", "timestamp")}


def _votes(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Read participants, comment ids of the vote columns, and votes (participants x comments, NaN where none)."""
    if not path.is_file():
        raise InputError(str(path), "no file", "a Polis export's participants-votes.csv")
    try:
        with pacsv.open_csv(path) as reader:
            names = list(reader.schema.names)
        options = pacsv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=True)
        table = pacsv.read_csv(path, convert_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        line = str(error).strip().splitlines()[0]
        raise InputError(str(path), f"an unreadable table ({line})", "a CSV file") from error
    if "participant" not in names:
        raise InputError(str(path), "no column 'participant'", "a Polis export's participants-votes.csv")
    columns = [name for name in names if name not in _COUNTS]
    known = pa.array(["-1", "0", "1", ""])
    votes = np.full((table.num_rows, len(columns)), np.nan)
    for j, name in enumerate(columns):
        cells = table.column(name).combine_chunks()
        place = pc.index_in(cells, value_set=known).to_numpy(zero_copy_only=False).astype(float)  # pyright: ignore[reportAttributeAccessIssue]
        bad = np.isnan(place) & ~cells.is_null().to_numpy(zero_copy_only=False)
        if bad.any():
            row = int(np.argmax(bad))
            where = f"{path}, row {row + 1}, column '{name}'"
            raise InputError(where, f"'{cells[row].as_py()}'", "-1, 0, 1 or nothing")
        value = np.array([-1.0, 0.0, 1.0, np.nan, np.nan])
        votes[:, j] = value[np.nan_to_num(place, nan=4).astype(int)]
    return table.column("participant").to_pylist(), columns, votes
