"""Journal of answers and labels in a database: add, change, withdraw, read by person, forget, prune."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, delete, exists, func, null, select, text
from sqlalchemy.sql.dml import ReturningDelete

from bestfor.errors import InputError
from bestfor.serving.journal import buckets, rows
from bestfor.serving.journal.buckets import Take
from bestfor.serving.journal.database import make_engine, parse_url, prepare, shown, told
from bestfor.serving.journal.direct import DirectWrites
from bestfor.serving.journal.others import OthersRead
from bestfor.serving.journal.prepared import PreparedRead
from bestfor.serving.journal.records import (
    AskedTexts,
    JournalError,
    Label,
    Learned,
    LoggedAnswer,
    SaidOfText,
    Standing,
    check_id,
    digest,
)
from bestfor.serving.journal.tables import HEAD, answers, counters, folders, labels, people, tombstones
from bestfor.serving.journal.writer import Apply, Writer

PORTION = 500
"""Labels of one call that are stored by one transaction."""


class Journal:
    """A journal of answers and labels, safe to share between threads; several processes may open one.

    What a call adds is on the disk before the call returns. Calls of several threads share a commit.

    Args:
        journal: ``sqlite:///feedback.db``, a file's path, or ``postgresql://user:password@host/name``. A new database
            is made, one of an older version is brought to this one.

    Raises:
        InputError: no such place, no database, somebody else's tables, or a newer version.
        JournalError: the database cannot be opened or written.
    """

    def __init__(self, journal: str | Path) -> None:
        self.url = parse_url(journal)
        self.name = shown(self.url)
        engine = make_engine(self.url, writes=True)
        try:
            prepare(engine)
        except BaseException:
            engine.dispose()
            raise
        self._engine, self._reader = engine, make_engine(self.url, writes=False)
        self._standing, self._others = PreparedRead(self.url, _REVISION), OthersRead(self.url, self.read)
        self._writer = Writer(engine)
        self._direct = DirectWrites(engine) if engine.dialect.name == "sqlite" else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self._writer.close()
        if self._direct is not None:
            self._direct.close()
        self._standing.close()
        self._others.close()
        self._reader.dispose()
        self._engine.dispose()

    @property
    def commits(self) -> int:
        """Transactions that this process has committed."""
        return self._writer.commits

    def add_answer(self, tenant: str, answer: LoggedAnswer) -> None:
        """Add an answer; it is on the disk when this returns.

        Raises:
            InputError: its id is there already, or an id cannot be stored.
            JournalError: it could not be stored.
        """
        self.send_answer(tenant, answer).result()

    def send_answer(self, tenant: str, answer: LoggedAnswer, *, on_disk: bool = True) -> Future[None]:
        """Add an answer without waiting for its commit, which the result is there after.

        Args:
            tenant: whose journal it is.
            answer: to add.
            on_disk: whether the commit waits for the disk; else the answer is with the operating system, which the end
                of this process leaves whole and a power cut may not. A label about it brings it to the disk.

        Raises:
            InputError: an id that cannot be stored; one that is there already by the result.
            JournalError: the journal was closed; by the result where it could not be stored.
        """
        check_id("answer", answer.id)
        _check_person(tenant, answer.user)
        if not on_disk and self._direct is not None and self._direct.add(tenant, answer):
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return self._writer.send(rows.add_answers, rows.AddAnswer(tenant, answer), on_disk=on_disk)

    def add_answers(self, tenant: str, given: Sequence[LoggedAnswer]) -> int:
        """Add answers that were given elsewhere, those whose id is there already not again; counts the new ones.

        Raises:
            InputError: an id cannot be stored.
            JournalError: they could not be stored; of every 500, all or none.
        """
        for answer in given:
            check_id("answer", answer.id)
            _check_person(tenant, answer.user)
        calls = [rows.AddAnswer(tenant, one) for one in given]
        portions = [calls[start : start + PORTION] for start in range(0, len(calls), PORTION)]
        sent = [self._writer.send(rows.keep_answers, one) for one in portions]
        return sum(one.result() for one in sent)

    def add_labels(
        self, tenant: str, given: Sequence[Label], *, revive: bool = False, portion: int = PORTION
    ) -> list[Learned]:
        """Add labels, each once: those whose key is there change it or do nothing; all are on the disk afterwards.

        Args:
            tenant: whose journal it is.
            given: labels.
            revive: whether a key that was withdrawn holds again; else it stays withdrawn.
            portion: how many are stored by one transaction; others who write wait meanwhile.

        Raises:
            InputError: an answer that is not there, or somebody else's answer or key; of a portion none is stored then.
            JournalError: they could not be stored.
        """
        for label in given:
            check_id("key", label.key)
            _check_person(tenant, label.user)
        portions = [tuple(given[start : start + portion]) for start in range(0, len(given), portion)]
        # Sent before the first is waited for: what lies in the queue shares a commit.
        sent = [self._writer.send(rows.add_labels, rows.AddLabels(tenant, one, revive)) for one in portions]
        return [one for each in sent for one in each.result()]

    def withdraw(self, tenant: str, key: str) -> bool:
        """Withdraw a label; says whether there was one that held."""
        return self._writer.submit(rows.withdraw, rows.Withdraw(tenant, check_id("key", key)))

    def standing(self, tenant: str, user: str) -> Standing:
        """Read whether anything about a person has changed, in this process or another: the newest commit counts."""
        self._writer.check_process()
        ((revision, forgotten, forgets),) = self._standing.rows(person=digest(tenant, user))
        return Standing(revision, bool(forgotten), forgets)

    def said_by_others(self, asked: AskedTexts, most: int, since: float | None = None) -> list[SaidOfText]:
        """Read what other people said of some texts: ratings and thumbs of each, the newest first, that hold.

        Args:
            asked: the texts, and who is left out.
            most: labels of each text at the most.
            since: those that came first until then (seconds since 1970) are left out; None takes all.
        """
        self._writer.check_process()
        return self._others.rows(asked, most, since)

    def answer(self, tenant: str, id: str) -> LoggedAnswer | None:
        """Read an answer; None where there is none of this id."""
        chosen = select(answers, people.c.user).join(people, people.c.person == answers.c.person)
        with self.read() as connection:
            row = connection.execute(chosen.where(answers.c.row == digest(tenant, id))).mappings().one_or_none()
        return None if row is None else rows.read_answer(row, row["user"])

    def answers_of(self, tenant: str, user: str) -> list[LoggedAnswer]:
        """Read a person's answers, oldest first."""
        chosen = select(answers).where(answers.c.person == digest(tenant, user)).order_by(answers.c.time, answers.c.id)
        with self.read() as connection:
            return [rows.read_answer(row, user) for row in connection.execute(chosen).mappings()]

    def labels_of(self, tenant: str, user: str) -> list[tuple[Label, LoggedAnswer | None]]:
        """Read a person's labels in the order of their keys, withdrawn ones too, with the answers they are about."""
        with self.read() as connection:
            return _labels_of(connection, digest(tenant, user), user)

    def label(self, tenant: str, key: str) -> Label | None:
        """Read a label by its key, withdrawn or not; None where there is none."""
        asked = (
            select(labels, people.c.user, answers.c.id.label("about"))
            .join(people, people.c.person == labels.c.person)
            .outerjoin(answers, answers.c.row == labels.c.answer)
            .where(labels.c.row == digest(tenant, key))
        )
        with self.read() as connection:
            row = connection.execute(asked).mappings().one_or_none()
        return None if row is None else rows.read_label(row, row["user"], row["about"])

    def people(self, tenant: str | None = None) -> Iterator[tuple[str, str]]:
        """List (tenant, user) of everybody known, of one tenant or of all, in order."""
        chosen = select(people.c.tenant, people.c.user).order_by(people.c.person)
        if tenant is not None:
            chosen = chosen.where(people.c.tenant == tenant)
        with self.read() as connection:
            found = [(row.tenant, row.user) for row in connection.execute(chosen)]
        return iter(sorted(found))

    def forgotten(self, tenant: str, users: Sequence[str]) -> set[str]:
        """Tell which of some users were forgotten."""
        with self.read() as connection:
            known = set(connection.scalars(select(tombstones.c.person)))
        return {user for user in users if digest(tenant, user) in known}

    def forget(self, tenant: str, user: str) -> tuple[int, int, bool]:
        """Remove everything about a person and leave a tombstone.

        SQLite: the file is written anew without them, and the write-ahead log is emptied. PostgreSQL: the tables are
        rewritten without them; the server's own log and backups are its keeper's.

        Returns:
            How many answers and labels were removed, and whether their bytes are gone from the files as well.
        """
        _check_person(tenant, user)
        gone = self._writer.submit(rows.forget, rows.Named(tenant, user))
        return (*gone, self.wipe())

    def take(self, given: Take) -> Future[float]:
        """Take from a bucket of all processes, without waiting for the disk.

        Returns:
            0, or the seconds to wait where it holds less.

        Raises:
            JournalError: the journal was closed; by the result where it could not be written.
        """
        return self._writer.send(buckets.take, given, on_disk=False)

    def bucket_wait(self, name: str, most: int) -> float:
        """Seconds until there is something in a bucket; 0 where there is."""
        with self.read() as connection:
            full = connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar()
        return buckets.wait_of(full, most)

    def prune(self, before: float, *, with_labels: bool = False) -> tuple[int, int]:
        """Remove old answers that no label is about, with their labels where asked for; who has none left goes too.

        Args:
            before: seconds since 1970; answers given earlier go.
            with_labels: whether labels given earlier, and the answers that they alone are about, go as well.

        Returns:
            How many answers and labels were removed.
        """
        gone = self._writer.submit(_prune, (before, with_labels))
        self.wipe()
        return gone

    def wipe(self) -> bool:
        """Make removed bytes unreadable in the journal's files; says whether that was possible now.

        SQLite overwrites removed rows, but a page that was split keeps copies of rows that moved: the file is written
        anew, which takes seconds a gigabyte and as much room, and its log is emptied once no reader needs it.
        """
        try:
            with self.read() as connection:
                if self.url.get_backend_name() == "sqlite":
                    connection.exec_driver_sql("VACUUM")
                    rounds = (connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one() for _ in range(3))
                    return any(not busy for busy, *_ in rounds)
                for table in ("people", "answers", "labels"):
                    connection.execute(text(f"VACUUM (FULL) {table}"))
        except JournalError:
            return False
        return True

    def counts(self) -> dict[str, Any]:
        """Count what the journal holds: version, people, answers, labels by kind, withdrawn and forgotten ones."""
        counted = select(labels.c.kind, func.count()).group_by(labels.c.kind).order_by(labels.c.kind)
        with self.read() as connection:
            return {
                "journal": self.name,
                "version": HEAD,
                "people": connection.scalar(select(func.count()).select_from(people)),
                "answers": connection.scalar(select(func.count()).select_from(answers)),
                "labels": {kind: count for kind, count in connection.execute(counted)},
                "withdrawn": connection.scalar(
                    select(func.count()).select_from(labels).where(labels.c.withdrawn.is_not(None))
                ),
                "forgotten": connection.scalar(select(func.count()).select_from(tombstones)),
            }

    def note_folder(self, path: Path, *, run: bool = False) -> None:
        """Remember a folder that may hold what people said: a model's, or a run's."""
        self._writer.submit(rows.note_folders, rows.Named("", str(path.resolve()), int(run)))

    def folders(self) -> list[tuple[Path, bool]]:
        """List the folders that :meth:`note_folder` was told of, and whether each is a run's."""
        with self.read() as connection:
            found = connection.execute(select(folders.c.path, folders.c.kind).order_by(folders.c.path))
            return [(Path(path), bool(kind)) for path, kind in found]

    def write(self, apply: Apply, call: object) -> Any:  # noqa: ANN401 - what ``apply`` gives
        """Apply a call within a transaction of the journal's one writer; see :meth:`Writer.submit`."""
        return self._writer.submit(apply, call)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Lend a connection for reading, whose errors are one line."""
        self._writer.check_process()
        with told(self.url), self._reader.connect() as connection:
            yield connection


_REVISION = text(
    "SELECT (SELECT revision FROM people WHERE person = :person),"
    " EXISTS (SELECT 1 FROM tombstones WHERE person = :person),"
    " (SELECT value FROM counters WHERE name = 'forgets')"
)


def _labels_of(connection: Connection, person: bytes, user: str) -> list[tuple[Label, LoggedAnswer | None]]:
    """Read a person's labels and the answers that they are about."""
    said = connection.execute(select(labels).where(labels.c.person == person).order_by(labels.c.key)).mappings().all()
    # By the answers' own digests: a person may have many more answers than they said something about.
    spoken = select(labels.c.answer).where(labels.c.person == person, labels.c.answer.is_not(None))
    about = select(answers).where(answers.c.row.in_(spoken))
    shown_: dict[bytes, LoggedAnswer] = {}
    if any(row["answer"] for row in said):
        shown_ = {row["row"]: rows.read_answer(row, user) for row in connection.execute(about).mappings()}
    found = [(row, shown_.get(row["answer"])) for row in said]
    return [(rows.read_label(row, user, None if one is None else one.id), one) for row, one in found]


def _prune(connection: Connection, calls: Sequence[tuple[float, bool]]) -> list[tuple[int, int]]:
    results = []
    for before, with_labels in calls:
        count = 0
        if with_labels:
            old = func.coalesce(labels.c.changed, labels.c.time) < before
            removed = delete(labels).where(old).returning(labels.c.person, labels.c.withdrawn)
            count = _remove(connection, removed, "labels")
        about = exists().where(labels.c.answer == answers.c.row)
        removed = (
            delete(answers)
            .where(answers.c.time < before, ~about)
            .returning(answers.c.person, null().label("withdrawn"))
        )
        gone = _remove(connection, removed, "answers")
        left = [exists().where(table.c.person == people.c.person) for table in (answers, labels)]
        connection.execute(delete(people).where(~left[0], ~left[1]))
        results.append((gone, count))
    return results


def _remove(connection: Connection, statement: ReturningDelete[Any, Any], what: str) -> int:
    """Remove rows, count them down of their people where they counted, and say how many they were."""
    lost: Counter[bytes] = Counter()
    removed = 0
    # The moment itself, not whether it is NULL: SQLite 3.40 says of removed rows that it never is.
    for person, withdrawn in connection.execute(statement):
        lost[person] += withdrawn is None
        removed += 1
    rows.lose(connection, [{"who": person, "lost": count} for person, count in lost.items()], what)
    return removed


def _check_person(tenant: str, user: str) -> None:
    check_id("tenant", tenant)
    if not check_id("user", user):
        raise InputError("user", "an empty id", "who asks")
