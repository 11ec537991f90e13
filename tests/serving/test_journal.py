"""The journal: once, changed, withdrawn, forgotten, pruned; two tenants; any id; other versions; both databases."""

import os
import random
import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from bestfor.errors import InputError
from bestfor.serving import journal as journals
from bestfor.serving.journal import Journal, JournalError, Label, LoggedAnswer, Standing, database, rows, tables


def statuses(learned):
    return [one.status for one in learned]


def held(journal, tenant="", user="ann"):
    """The labels of a person that hold, by key."""
    return {label.key: label for label, _ in journal.labels_of(tenant, user) if label.withdrawn is None}


def test_an_answer_is_read_as_it_was_written(journal, answer):
    given_ = answer(
        mean=(0.1 + 0.2, None, -1e-300),
        std=(1.0, None, 2.0),
        texts=("a\0b", "\ud800 lone", "naïve 🎈\n"),
        chances=(0.5, 0.25, 0.25),
        tokens=2**40,
    )
    journal.add_answer("", given_)
    assert journal.answer("", "a") == given_
    assert journal.answers_of("", "ann") == [given_]
    assert journal.answer("", "b") is None
    with pytest.raises(InputError, match="found the id 'a' again"):
        journal.add_answer("", given_)


def test_a_label_is_counted_once_however_often_it_is_sent(journal, thumb):
    assert statuses(journal.add_labels("", [thumb()])) == ["new"]
    before = journal.standing("", "ann")
    assert statuses(journal.add_labels("", [thumb(), thumb(), thumb(time=2000.0)])) == ["same"] * 3
    assert journal.standing("", "ann") == before
    assert held(journal) == {"k": thumb()}


def test_a_label_can_be_changed_and_withdrawn(journal, thumb):
    journal.add_labels("", [thumb()])
    first = journal.standing("", "ann")
    assert statuses(journal.add_labels("", [thumb(value=0.0, time=3000.0)])) == ["changed"]
    second = journal.standing("", "ann")
    assert second.revision > first.revision
    assert held(journal)["k"] == thumb(value=0.0, changed=3000.0)
    assert journal.withdraw("", "k")
    assert journal.standing("", "ann").revision > second.revision
    assert held(journal) == {}
    assert not journal.withdraw("", "k")
    assert not journal.withdraw("", "never said")


def test_a_withdrawn_key_stays_so_unless_it_is_to_be_revived(journal, thumb):
    journal.add_labels("", [thumb()])
    journal.withdraw("", "k")
    assert statuses(journal.add_labels("", [thumb()])) == ["withdrawn"]
    assert held(journal) == {}
    assert statuses(journal.add_labels("", [thumb()], revive=True)) == ["new"]
    assert set(held(journal)) == {"k"}


def test_labels_of_one_call_with_one_key_are_applied_in_order(journal, thumb):
    assert statuses(journal.add_labels("", [thumb(), thumb(value=0.0), thumb(value=0.0)])) == ["new", "changed", "same"]
    assert held(journal)["k"].value == 0.0


def test_a_label_is_about_an_answer_that_is_there_and_of_its_user(journal, answer, thumb):
    journal.add_answer("", answer())
    with pytest.raises(InputError, match="answer: found the id 'b', which is not in the journal"):
        journal.add_labels("", [thumb(), thumb("k2", answer="b")])
    assert held(journal) == {}
    with pytest.raises(InputError, match="user: found 'bob'"):
        journal.add_labels("", [thumb(answer="a", user="bob")])
    journal.add_labels("", [thumb(answer="a")])
    assert journal.labels_of("", "ann") == [(thumb(answer="a"), answer())]
    with pytest.raises(InputError, match="key: found 'k', which is a label of somebody else"):
        journal.add_labels("", [thumb(user="bob")])


def test_two_tenants_with_the_same_ids_never_meet(journal, answer, thumb):
    for tenant in ("a", "b"):
        journal.add_answer(tenant, answer(rule=tenant))
    journal.add_labels("a", [thumb(answer="a")])
    assert held(journal, "b") == {}
    assert not journal.withdraw("b", "k")
    assert journal.answer("b", "a").rule == "b"
    journal.add_labels("b", [thumb(value=0.0, answer="a")])
    assert (held(journal, "a")["k"].value, held(journal, "b")["k"].value) == (1.0, 0.0)
    assert journal.forget("b", "ann")[:2] == (1, 1)
    assert set(held(journal, "a")) == {"k"}
    assert not journal.standing("a", "ann").forgotten
    assert list(journal.people()) == [("a", "ann")]


def test_where_a_tenant_ends_and_a_user_begins_is_never_mistaken(journal, thumb):
    journal.add_labels("ab", [thumb(user="c")])
    assert journal.labels_of("a", "bc") == []
    assert journal.labels_of("", "abc") == []


@pytest.mark.parametrize("user", ["🎈" * 10_000, "Ünïcode\u202e ann", "%' OR 1=1 --", "\n\t ", "a" * 10_000])
def test_ids_of_any_length_and_script_are_kept(journal, answer, thumb, user):
    journal.add_answer(user, answer(user=user, id=user))
    journal.add_labels(user, [thumb(user, user=user, answer=user)])
    assert [label.key for label, _ in journal.labels_of(user, user)] == [user]
    assert list(journal.people()) == [(user, user)]
    assert journal.withdraw(user, user)


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "a\x1fb"])
def test_ids_that_cannot_be_kept_are_refused(journal, answer, thumb, bad):
    with pytest.raises(InputError, match=r"user: found the character U\+"):
        journal.add_labels("", [thumb(user=bad)])
    with pytest.raises(InputError, match=r"key: found the character U\+"):
        journal.add_labels("", [thumb(bad)])
    with pytest.raises(InputError, match=r"tenant: found the character U\+"):
        journal.add_answer(bad, answer())
    with pytest.raises(InputError, match="user: found an empty id"):
        journal.add_answer("", answer(user=""))


def test_a_forgotten_person_leaves_a_tombstone_and_may_come_back(journal, answer, thumb):
    journal.add_answer("", answer())
    journal.add_labels("", [thumb(answer="a"), thumb("k2")])
    old = journal.standing("", "ann").revision
    assert journal.forget("", "ann") == (1, 2, True)
    assert journal.standing("", "ann") == Standing(None, True)
    assert journal.forgotten("", ["ann", "bob"]) == {"ann"}
    assert (journal.answer("", "a"), journal.labels_of("", "ann"), list(journal.people())) == (None, [], [])
    assert journal.forget("", "ann") == (0, 0, True)
    journal.add_labels("", [thumb("k3")])
    back = journal.standing("", "ann")
    assert back.forgotten
    assert back.revision > old


def bytes_of(path):
    return b"".join(one.read_bytes() for one in sorted(path.parent.glob(path.name + "*")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_a_forgotten_person_stays_in_the_files(tmp_path, answer, thumb, seed):
    """Rows of many sizes among others', so that pages split, overflow and are rebuilt."""
    draw = np.random.default_rng(seed)
    path = tmp_path / "feedback.db"
    with Journal(path) as journal:
        for number in range(300):
            user = "SECRETUSER" if draw.random() < 0.3 else f"user {draw.integers(20)}"
            mark = "SECRETTEXT" if user == "SECRETUSER" else "plain text"
            words = (f"{mark} {number} " * int(draw.integers(1, 200)), mark)
            journal.add_answer("", answer(f"a{number}", user, words))
            label = thumb(f"{user} {number}", user=user, answer=f"a{number}", texts=words[:1])
            journal.add_labels("", [label])
            if draw.random() < 0.2:
                journal.add_labels("", [replace(label, value=0.0, texts=(words[0] * 2,))])
        assert b"SECRETTEXT" in bytes_of(path)
        assert journal.forget("", "SECRETUSER")[2]
        left = bytes_of(path)
    assert (left.count(b"SECRETTEXT"), left.count(b"SECRETUSER")) == (0, 0)
    assert b"plain text" in left


@pytest.mark.slow
def test_no_byte_stays_where_pages_of_short_rows_were_split(tmp_path, thumb):
    """Found by trying: overwriting alone left 19 copies for this seed, of rows that had moved to other pages."""
    draw, path = random.Random(5), tmp_path / "feedback.db"
    with Journal(path) as journal:
        for turn in range(40):
            said = []
            for number in range(100):
                secret = draw.random() < 0.3
                user = "SECRETUSER" if secret else f"user{draw.randrange(50)}"
                words = ("SECRETTEXT " if secret else "plain ") * draw.randrange(1, 6)
                said.append(thumb(f"{user}-{turn}-{number}", user=user, texts=(words,)))
            journal.add_labels("", said)
            for one in draw.sample(said, 10):
                journal.add_labels("", [replace(one, value=0.0, texts=(one.texts[0] * draw.randrange(1, 8),))])
            if turn % 10 == 9:
                journal.forget("", f"user{draw.randrange(50)}")
        assert journal.forget("", "SECRETUSER")[2]
        assert b"SECRET" not in bytes_of(path)


def test_pruning_removes_old_answers_that_nobody_said_anything_about(journal, answer, thumb):
    for number, time in enumerate((10.0, 20.0, 30.0)):
        journal.add_answer("", answer(f"a{number}", time=time))
    journal.add_labels("", [thumb(answer="a0", time=10.0), thumb("k2", answer="a2", time=30.0)])
    assert journal.prune(25.0) == (1, 0)
    assert [one.id for one in journal.answers_of("", "ann")] == ["a0", "a2"]
    before = journal.standing("", "ann")
    assert journal.prune(25.0, with_labels=True) == (1, 1)
    assert journal.standing("", "ann") != before
    assert set(held(journal)) == {"k2"}
    assert [one.id for one in journal.answers_of("", "ann")] == ["a2"]
    assert list(journal.people()) == [("", "ann")]
    assert journal.prune(40.0, with_labels=True) == (1, 1)
    assert list(journal.people()) == []


def test_counts_say_what_there_is(journal, answer, thumb):
    journal.add_answer("", answer())
    journal.add_labels("", [thumb(), thumb("k2"), replace(thumb("k3"), kind="edit")])
    journal.withdraw("", "k2")
    journal.forget("", "bob")
    found = journal.counts()
    assert found == {
        "journal": journal.name,
        "version": tables.HEAD,
        "people": 1,
        "answers": 1,
        "labels": {"edit": 1, "thumb": 2},
        "withdrawn": 1,
        "forgotten": 1,
    }


def test_folders_are_remembered_once(journal, tmp_path):
    journal.note_folder(tmp_path / "run", run=True)
    journal.note_folder(tmp_path / "model")
    journal.note_folder(tmp_path / "model")
    assert journal.folders() == [(tmp_path / "model", False), (tmp_path / "run", True)]


def test_threads_share_commits_and_lose_nothing(journal, thumb):
    start = threading.Barrier(16)

    def work(number):
        start.wait()
        for place in range(20):
            journal.add_labels("", [thumb(f"{number}-{place}", user=f"u{place % 3}")])

    before = journal.commits
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {key for place in range(3) for key in held(journal, user=f"u{place}")}
    assert found == {f"{number}-{place}" for number in range(16) for place in range(20)}
    assert journal.commits - before < 320


def test_two_journals_of_one_database_see_each_other_at_once(journal, address, answer, thumb):
    with Journal(address) as other:
        journal.add_answer("", answer())
        other.add_labels("", [thumb(answer="a")])
        assert set(held(journal)) == {"k"}
        before = journal.standing("", "ann")
        other.withdraw("", "k")
        assert journal.standing("", "ann") != before
        start = threading.Barrier(2)

        def work(one):
            start.wait()
            for place in range(30):
                one.add_labels("", [thumb(f"both {place}", value=1.0)])

        threads = [threading.Thread(target=work, args=(one,)) for one in (journal, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(held(journal)) == 30


def test_one_bad_call_does_not_spoil_those_that_share_its_commit(journal, thumb):
    """The rows of all waiting calls fail together in the database; each is then told of its own."""
    start, failures = threading.Barrier(8), []

    def work(number):
        start.wait()
        try:
            # A weight that is no number reaches the database, which refuses the whole statement.
            journal.add_labels("", [thumb(f"k{number}", weight=object() if number == 3 else 1.0)])
        except Exception as error:
            failures.append((number, error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, _ in failures] == [3]
    assert set(held(journal)) == {f"k{number}" for number in range(8) if number != 3}


def test_what_is_closed_says_so(address, thumb):
    journal = Journal(address)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="it was closed"):
        journal.add_labels("", [thumb()])


def test_migrations_make_the_tables_that_the_code_reads(address):
    Journal(address).close()
    engine = create_engine(database.parse_url(address))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_a_journal_of_a_newer_version_is_refused(address):
    Journal(address).close()
    engine = create_engine(database.parse_url(address))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(InputError, match=r"a journal of version 999; expected version 005 or older \(update bestfor\)"):
        Journal(address)
    engine.dispose()


NEXT = """
from alembic import op
import sqlalchemy as sa

revision = "next"
down_revision = "{head}"

def upgrade():
    op.add_column("labels", sa.Column("reason", sa.Text))
"""


def test_a_journal_of_an_older_version_is_brought_to_this_one(address, thumb, tmp_path, monkeypatch):
    with Journal(address) as journal:
        journal.add_labels("", [thumb()])
    later = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, later, ignore=shutil.ignore_patterns("__pycache__"))
    (later / "versions" / "v002.py").write_text(NEXT.format(head=tables.HEAD))
    monkeypatch.setattr(database, "MIGRATIONS", later)
    monkeypatch.setattr(database, "HEAD", "next")
    for _ in range(2):
        with Journal(address) as journal:
            assert held(journal) == {"k": thumb()}
    engine = create_engine(database.parse_url(address))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num, reason FROM alembic_version, labels")).all() == [
            ("next", None)
        ]
    engine.dispose()


def old_journal(address, version="001"):
    """A journal as an earlier release left it: an answer, labels of two people, one of them withdrawn."""
    engine = create_engine(database.parse_url(address))
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        old = MetaData()
        old.reflect(connection)
        made = [
            LoggedAnswer("a", "ann", "p", ("one", "two"), (0.0, 1.0), None, (0.0, 1.0), 1, "best", "m", "own", 3, 1.0)
        ]
        connection.execute(old.tables["answers"].insert(), [rows.answer_row("", one) for one in made])
        said = [
            Label("k", "ann", "thumb", answer="a", value=1.0, texts=("one",), time=1.0),
            Label("gone", "ann", "thumb", value=0.0, texts=("two",), time=1.0, withdrawn=2.0),
            *(
                Label(f"b{n}", "bob", "rating", value=n / 9, low=0.0, high=1.0, texts=("one",), time=1.0)
                for n in range(9)
            ),
        ]
        connection.execute(old.tables["labels"].insert(), [rows.label_row("", one) for one in said])
        people = [
            {"person": journals.records.digest("", u), "tenant": "", "user": u, "revision": 5} for u in ("ann", "bob")
        ]
        connection.execute(old.tables["people"].insert(), people)
        tombstone = {"person": journals.records.digest("", "eve"), "time": 1.0}
        connection.execute(old.tables["tombstones"].insert(), tombstone)
    engine.dispose()
    return made, said


def test_a_journal_of_the_first_version_keeps_all_that_it_held(address):
    made, said = old_journal(address)
    for _ in range(2):
        with Journal(address) as journal:
            assert journal.answers_of("", "ann") == made
            found = [label for user in ("ann", "bob") for label, _ in journal.labels_of("", user)]
            assert sorted(found, key=lambda one: one.key) == sorted(said, key=lambda one: one.key)
            assert journal.standing("", "ann") == Standing(5, False)
            assert journal.standing("", "eve") == Standing(None, True)
    with Journal(address) as journal:
        assert statuses(journal.add_labels("", said)) == ["same", "withdrawn", *["same"] * 9]
        assert journal.forget("", "bob")[:2] == (0, 9)
        assert journal.standing("", "ann").forgets == 1
    engine = create_engine(database.parse_url(address))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        keys = inspect(connection).get_pk_constraint("labels")["constrained_columns"]
    engine.dispose()
    assert keys == ["person", "row"]


def test_a_migration_that_breaks_off_leaves_the_journal_as_it_was(address, monkeypatch):
    _, said = old_journal(address)

    def breaks_off(*given, **options):
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))

    with monkeypatch.context() as broken:
        broken.setattr("alembic.op.rename_table", breaks_off)
        broken.setattr("alembic.op.create_primary_key", breaks_off)
        with pytest.raises(JournalError, match="the disk is full or cannot be written"):
            Journal(address)
    engine = create_engine(database.parse_url(address))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "001"
        assert connection.execute(text("SELECT count(*) FROM labels")).scalar() == len(said)
        assert "counters" not in inspect(connection).get_table_names()
    engine.dispose()
    with Journal(address) as journal:
        assert len(journal.labels_of("", "bob")) == 9


def test_every_journal_hears_of_who_was_forgotten(journal, address, thumb):
    journal.add_labels("", [thumb()])
    with Journal(address) as other:
        before = other.standing("", "bob").forgets
        journal.forget("", "ann")
        journal.forget("", "ann")
        assert other.standing("", "bob").forgets == before + 2


def test_more_threads_than_connections_read_at_once(journal, thumb):
    journal.add_labels("", [thumb()])
    expected, start, found = journal.standing("", "ann"), threading.Barrier(40), []

    def work():
        start.wait()
        for _ in range(20):
            found.append((journal.standing("", "ann"), len(journal.labels_of("", "ann"))))

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(expected, 1)] * 800


def test_a_forked_process_neither_reads_nor_writes(journal, thumb, monkeypatch):
    journal.add_labels("", [thumb()])
    own = os.getpid()
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: own + 1)
        for call in (
            lambda: journal.standing("", "ann"),
            lambda: journal.labels_of("", "ann"),
            lambda: journal.add_labels("", [thumb("k2")]),
        ):
            with pytest.raises(JournalError, match="opened before a fork; open it in each process"):
                call()
    assert set(held(journal)) == {"k"}


def test_a_read_that_fails_is_one_line_and_the_next_one_works(tmp_path, thumb):
    with Journal(tmp_path / "feedback.db") as journal:
        journal.add_labels("", [thumb()])
        expected = journal.standing("", "ann")
        with sqlite3.connect(tmp_path / "feedback.db") as other:
            other.execute("ALTER TABLE people RENAME TO persons")
        with pytest.raises(JournalError, match="no such table: people"):
            journal.standing("", "ann")
        with sqlite3.connect(tmp_path / "feedback.db") as other:
            other.execute("ALTER TABLE persons RENAME TO people")
        other.close()
        assert journal.standing("", "ann") == expected


def test_labels_of_one_person_lie_side_by_side(tmp_path, thumb):
    with Journal(tmp_path / "feedback.db") as journal:
        journal.add_labels("", [thumb(f"{user} {n}", user=f"u{user}") for n in range(5) for user in range(20)])
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        order = [person for person, _ in connection.execute("SELECT person, texts FROM labels")]
        (made,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'labels'").fetchone()
    connection.close()
    assert order == sorted(order)
    assert "WITHOUT ROWID" in made


def test_tables_of_somebody_else_are_left_alone(address):
    engine = create_engine(database.parse_url(address))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (a INTEGER)"))
    with pytest.raises(InputError, match=r"found tables that are not a journal's \(theirs\)"):
        Journal(address)
    engine.dispose()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("sqlite://", "a database in memory"),
        ("sqlite:///:memory:", "a database in memory"),
        ("mysql://host/name", "a database of kind 'mysql'"),
        ("sqlite:///no/such/folder/j.db", "no folder"),
        ("://", "an address that cannot be read"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(place, said):
    with pytest.raises(InputError, match=said):
        Journal(place)


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"notes " * 1000)
    with pytest.raises(InputError, match="a file that is no database"):
        Journal(path)
    assert path.read_bytes() == b"notes " * 1000
    with pytest.raises(InputError, match="found a folder"):
        Journal(tmp_path)


def test_a_password_is_not_shown():
    address = "postgresql://ann:hunter2@127.0.0.1:1/none"
    with pytest.raises(JournalError) as raised:
        Journal(address)
    assert "hunter2" not in str(raised.value)
    assert "ann" in str(raised.value)


def test_commits_wait_for_the_disk(tmp_path):
    with Journal(tmp_path / "feedback.db") as journal, journal._engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


@given(st.text(alphabet=st.characters(exclude_characters="\0\x1f", exclude_categories=("Cs",)), min_size=1))
def test_any_id_is_one_person(user):
    assert journals.check_id("user", user) == user
    assert journals.records.digest("", user) != journals.records.digest(user, "")


def test_the_file_is_plain_sqlite(tmp_path, thumb):
    path = Path(tmp_path / "feedback.db")
    with Journal(path) as journal:
        journal.add_labels("", [thumb()])
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT key, kind, value FROM labels").fetchall() == [("k", "thumb", 1.0)]
    connection.close()
