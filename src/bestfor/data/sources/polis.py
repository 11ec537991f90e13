"""Load Polis exports: votes of people on each other's statements.

A conversation is a folder with ``comments.csv`` (comment-id, author-id, moderated, timestamp, comment-body) and
``participants-votes.csv`` (participant, counts and what else, then one column per comment-id: -1 disagree, 0 pass,
1 agree, empty where there was no vote). Nothing is read of the other columns: ``xid`` among them is an identity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bestfor.data.ratings import Ratings
from bestfor.data.read.cells import at_row
from bestfor.data.read.tables import Columns, columns_of, file_signature, read_table
from bestfor.errors import InputError
from bestfor.files import hash_text, labelled
from bestfor.types import BoolArray, FloatArray

Moderation = Literal["shown", "accepted"]

VOTES = ("participants-votes.csv", "participant-votes.csv")
"""Names of the file of votes; the second is that of the report's own export."""
_NAMES = {
    "id": ("comment-id", "comment_id", "commentId", "statement-id", "tid"),
    "author": ("author-id", "author_id", "authorId", "participant-id", "pid"),
    "body": ("comment-body", "comment_body", "comment", "statement", "txt", "text"),
    "moderated": ("moderated", "moderation", "mod"),
    "timestamp": ("timestamp", "created"),
}
"""Names of a comment's columns, the export's own first."""
_VOTERS = ("participant", "participant-id", "participant_id", "voter-id", "voter_id", "pid")


@dataclass(frozen=True)
class _Comments:
    """Statements of a conversation: (n,) lists, and whether a moderator accepted (1), rejected (-1) or did nothing."""

    ids: list[str]
    authors: list[str]
    bodies: list[str]
    times: list[float | None]
    moderated: FloatArray


def load_polis(path: str | Path, moderation: Moderation = "shown") -> Ratings:
    """Load the votes on statements that were shown, without votes on one's own.

    Args:
        path: the folder of an export.
        moderation: ``"shown"`` takes statements that a moderator accepted and, since conversations without strict
            moderation show them too, those that no moderator looked at and others than their authors voted on;
            ``"accepted"`` takes the accepted ones only.

    Returns:
        Ratings in {-1, 0, 1}; text ids are comment ids, user ids are participants; notes say what was left out.

    Raises:
        InputError: a missing folder, file or column, or a vote that is none of -1, 0, 1 (with row and column).
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(str(folder), "no folder", "a Polis export with comments.csv and participants-votes.csv")
    comments = _comments(folder / "comments.csv")
    file = next((folder / name for name in VOTES if (folder / name).is_file()), folder / VOTES[0])
    participants, columns, votes = _votes(file, comments.ids)
    position = {identity: i for i, identity in enumerate(comments.ids)}
    comment = np.array([position[name] for name in columns], dtype=np.int64)
    own = np.array(participants, dtype=object)[:, None] == np.array(comments.authors, dtype=object)[comment][None, :]
    given = np.isfinite(votes) & ~own
    kept = _kept(comments.moderated[comment], given.any(axis=0), moderation)
    if not kept.any():
        raise _nothing(folder / "comments.csv", moderation)
    row, column = np.nonzero(given & kept)
    said = _notes(comments, (comment, given, kept), int((np.isfinite(votes) & own & kept).sum()))
    table = pa.table(
        {
            "user": pa.array(participants).take(pa.array(row)),
            "text": pa.array(comments.bodies).take(pa.array(comment[column])),
            "text_id": pa.array(comments.ids).take(pa.array(comment[column])),
            "timestamp": pa.array(comments.times, pa.float64()).take(pa.array(comment[column])),
            "rating": pa.array(votes[row, column]),
        }
    )
    parts = [file_signature(one) for one in (folder / "comments.csv", file)]
    parts += [] if moderation == "shown" else [moderation]
    signature = labelled(hash_text("|".join(parts)))
    found = Ratings.build(table, name=folder.name, source=str(folder), signature=signature)
    return replace(found, notes=(*said, *found.notes))


def _kept(moderated: FloatArray, voted: BoolArray, moderation: Moderation) -> BoolArray:
    """Find the vote columns that count: shape (columns,)."""
    kept = moderated == 1
    return kept if moderation == "accepted" else kept | (~(moderated == -1) & voted)


def _nothing(path: Path, moderation: Moderation) -> InputError:
    if moderation == "accepted":
        expected = 'moderated comments (or moderation = "shown" under [data], where moderation was not strict)'
        return InputError(str(path), "no comment with moderated = 1 and a column of votes", expected)
    found = "no comment that was accepted, or that others than its author voted on"
    return InputError(str(path), found, "comments with votes, whose columns are named by comment-id")


def _notes(comments: _Comments, votes: tuple[np.ndarray, BoolArray, BoolArray], own: int) -> tuple[str, ...]:
    """Say what was left out, and what was kept that no moderator accepted."""
    comment, given, kept = votes
    total = len(comments.ids)
    unseen = kept & ~(comments.moderated[comment] == 1)
    out, count = total - int(kept.sum()), int(given[:, ~kept].sum())
    said = []
    if out:
        plural = "" if count == 1 else "s"
        said.append(f"{out} of {total} statements ({count} vote{plural}) left out: not accepted by a moderator")
    if unseen.any():
        said.append(
            f"{int(unseen.sum())} of {total} statements ({int(given[:, unseen].sum())} votes) were kept that no "
            "moderator looked at: others than their authors voted on them "
            '(moderation = "accepted" under [data] leaves them out)'
        )
    if own:
        said.append(f"{own} votes of authors on their own statements left out")
    return tuple(said)


def _named(path: Path, role: str, known: list[str]) -> str:
    return next((name for name in _NAMES[role] if name in known), _NAMES[role][0])


def _comments(path: Path) -> _Comments:
    known = columns_of(path)
    names = {role: _named(path, role, known) for role in _NAMES}
    columns = Columns(
        text={role: names[role] for role in ("id", "author", "body")},
        number={role: names[role] for role in ("moderated", "timestamp")},
        optional=frozenset({"moderated", "timestamp"}),
        blank=frozenset({"author", "body"}),
        ids=frozenset({"id"}),
    )
    table = read_table(path, columns)
    count = table.num_rows
    there = set(table.schema.names)
    moderated = table.column("moderated").to_numpy() if "moderated" in there else np.zeros(count)
    times = table.column("timestamp").to_pylist() if "timestamp" in there else [None] * count
    ids = table.column("id").to_pylist()
    twice = next((one for one in ids if ids.count(one) > 1), None) if len(set(ids)) < count else None
    if twice is not None:
        raise InputError(str(path), f"comment '{twice}' twice", "distinct comment ids")
    authors = [_plain_id(one) for one in table.column("author").to_pylist()]
    return _Comments(ids, authors, table.column("body").to_pylist(), times, np.nan_to_num(moderated))


def _plain_id(cell: str | None) -> str:
    """Spell an author's id as ids are; who wrote an imported statement may be unknown."""
    text = (cell or "").strip()
    return text[:-2] if text.endswith(".0") and text[:-2].isdigit() else text


def _votes(path: Path, comments: list[str]) -> tuple[list[str], list[str], FloatArray]:
    """Read participants, comment ids of the vote columns, and votes (participants x comments, NaN where none)."""
    if not path.is_file():
        raise InputError(str(path), "no file", "a Polis export's participants-votes.csv")
    known = columns_of(path)
    voter = next((name for name in _VOTERS if name in known), None)
    if voter is None:
        raise InputError(str(path), "no column 'participant'", "a Polis export's participants-votes.csv")
    wanted = set(comments)
    columns = [name for name in known if _plain_id(name) in wanted]
    if not columns:
        raise InputError(str(path.parent), "no vote column of a comment", "columns named by comment-id")
    roles = Columns(text={"voter": voter}, number={name: name for name in columns}, ids=frozenset({"voter"}))
    table = read_table(path, roles)
    votes = np.stack([table.column(name).to_numpy() for name in columns], axis=1)
    bad = np.argwhere(np.isfinite(votes) & ~np.isin(votes, (-1.0, 0.0, 1.0)) | np.isinf(votes))
    if len(bad):
        row, column = bad[0].tolist()
        where = at_row(f"{path}, column '{columns[column]}'", row + 1)
        raise InputError(where, f"'{votes[row, column]:g}'", "-1, 0, 1 or nothing")
    voters = table.column("voter")
    twice = pc.value_counts(voters).filter(pc.greater(pc.struct_field(pc.value_counts(voters), 1), 1))  # pyright: ignore[reportAttributeAccessIssue]
    if len(twice):
        raise InputError(str(path), f"participant '{twice[0]['values'].as_py()}' twice", "one row a participant")
    return voters.to_pylist(), [_plain_id(name) for name in columns], votes
