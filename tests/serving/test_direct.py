"""Answers that do not wait for the disk: written in the caller's thread, or left to the writer."""

import sqlite3
import threading
from contextlib import closing

import pytest

from bestfor.errors import InputError
from bestfor.serving.journal import Journal
from bestfor.serving.journal.direct import TURN


@pytest.fixture
def file(tmp_path):
    return tmp_path / "feedback.db"


def test_an_answer_is_in_the_journal_of_every_process_at_once(file, answer):
    with Journal(file) as journal, Journal(file) as other:
        done = [journal.send_answer("", answer(f"a{place}"), on_disk=False) for place in range(3)]
        assert all(one.done() for one in done)
        assert [one.id for one in other.answers_of("", "ann")] == ["a0", "a1", "a2"]
        assert other.standing("", "ann").revision is not None


def test_where_another_process_is_writing_the_writer_waits_instead(file, answer):
    with Journal(file) as journal, closing(sqlite3.connect(file, isolation_level=None)) as other:
        journal.send_answer("", answer("a"), on_disk=False)
        other.execute("BEGIN IMMEDIATE")
        waiting = journal.send_answer("", answer("b"), on_disk=False)
        assert not waiting.done()
        other.execute("COMMIT")
        assert waiting.result() is None
        assert journal.answer("", "b") is not None


def test_an_id_that_is_there_is_refused_and_nothing_is_half_written(file, answer):
    with Journal(file) as journal:
        journal.send_answer("", answer("a"), on_disk=False).result()
        with pytest.raises(InputError, match="again"):
            journal.send_answer("", answer("a", user="ben"), on_disk=False).result()
        assert list(journal.people()) == [("", "ann")]


def test_the_writers_turns_keep_the_log_short(file, answer):
    with Journal(file) as journal:
        for place in range(20 * TURN):
            journal.send_answer("", answer(f"a{place}", texts=("a long text " * 20,)), on_disk=False).result()
        assert journal.commits >= 20
        assert file.with_name("feedback.db-wal").stat().st_size < 3 * 1000 * 4096


def test_threads_share_it(file, answer):
    with Journal(file) as journal:

        def add(name):
            for place in range(50):
                journal.send_answer("", answer(f"{name}{place}"), on_disk=False).result()

        threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(journal.answers_of("", "ann")) == 200


def test_a_label_about_such_an_answer_is_kept_with_it(file, answer, thumb):
    with Journal(file) as journal:
        journal.send_answer("", answer("a"), on_disk=False).result()
        assert journal.add_labels("", [thumb(answer="a")])[0].status == "new"
        journal.forget("", "ann")
        assert journal.answer("", "a") is None
