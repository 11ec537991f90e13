"""Counts by person equal what is counted row by row, whatever was done, by whom, and in which order."""

import json
import random
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import create_engine, func, select, text

from bestfor.errors import InputError
from bestfor.serving.export_tables import export_file
from bestfor.serving.imports import import_files
from bestfor.serving.journal import Journal, database
from bestfor.serving.journal.recent import totals
from bestfor.serving.journal.refits import count_labels
from bestfor.serving.journal.tables import answers, labels, people
from support.migrating import migrate

TENANTS, USERS, KEYS = ("", "b"), ("ann", "ben", "eve"), range(12)


def recounted(journal, tenant):
    """People, answers, and labels that hold, row by row."""
    theirs = select(people.c.person).where(people.c.tenant == tenant)
    asked = [
        select(func.count()).select_from(people).where(people.c.tenant == tenant),
        select(func.count()).select_from(answers).where(answers.c.person.in_(theirs)),
        select(func.count()).select_from(labels).where(labels.c.person.in_(theirs), labels.c.withdrawn.is_(None)),
    ]
    with journal.read() as connection:
        return tuple(connection.scalar(one) for one in asked)


def agree(journal):
    """All that is counted equals a recount, and no row is of somebody unknown."""
    for tenant in TENANTS:
        assert totals(journal, tenant) == recounted(journal, tenant)
        assert count_labels(journal, tenant) == totals(journal, tenant)[2]
    with journal.read() as connection:
        for table in (answers, labels):
            known = table.c.person.in_(select(people.c.person))
            assert connection.scalar(select(func.count()).select_from(table).where(~known)) == 0
        one_by_one = connection.execute(select(people.c.person, people.c.answers, people.c.labels)).all()
        for person, given, said in one_by_one:
            held = select(func.count()).select_from(labels)
            assert said == connection.scalar(held.where(labels.c.person == person, labels.c.withdrawn.is_(None)))
            assert given == connection.scalar(
                select(func.count()).select_from(answers).where(answers.c.person == person)
            )


def act(journal, draw, answer, thumb, counter):
    """Do one of the things that change a journal."""
    tenant, user = draw.choice(TENANTS), draw.choice(USERS)
    kind = draw.choice(
        ("answer", "answer", "answers", "label", "label", "label", "edit", "withdraw", "forget", "prune")
    )
    if kind == "answer":
        made = answer(f"a{next(counter)}", user=user, time=draw.uniform(0, 1000))
        journal.send_answer(tenant, made, on_disk=draw.random() < 0.5).result()
    elif kind == "answers":
        journal.add_answers(tenant, [answer(f"a{draw.randrange(40)}-{user}", user=user, time=500.0) for _ in range(3)])
    elif kind == "label":
        said = [thumb(f"{user}{draw.choice(KEYS)}", draw.choice((0.0, 1.0)), user=user, time=draw.uniform(0, 1000))]
        said.append(replace(said[0], key=f"{user}{draw.choice(KEYS)}", withdrawn=draw.choice((None, 5.0))))
        journal.add_labels(tenant, said, revive=draw.random() < 0.5)
    elif kind == "edit":
        known = journal.answers_of(tenant, user)
        if known:
            one = draw.choice(known)
            journal.add_labels(tenant, [thumb(f"{user}-{one.id}", user=user, answer=one.id, time=one.time)])
    elif kind == "withdraw":
        journal.withdraw(tenant, f"{user}{draw.choice(KEYS)}")
    elif kind == "forget" and draw.random() < 0.5:
        journal.forget(tenant, user)
    elif kind == "prune" and draw.random() < 0.5:
        journal.prune(draw.uniform(0, 1000), with_labels=draw.random() < 0.5)


@pytest.mark.parametrize("seed", range(2))
def test_totals_equal_a_recount_after_anything(journal, address, answer, thumb, seed):
    draw, counter = random.Random(seed), iter(range(10**6))
    with Journal(address) as other:
        for turn in range(40):
            act(draw.choice((journal, other)), draw, answer, thumb, counter)
            if turn % 10 == 9:
                agree(journal)


@pytest.mark.slow
def test_totals_equal_a_recount_after_an_import_again_and_of_an_export(journal, tmp_path, thumb):
    path = tmp_path / "said.jsonl"
    rows = [{"key": f"k{n}", "user": f"u{n % 7}", "text": f"text {n}", "thumb": n % 2} for n in range(100)]
    rows += [{"key": "e", "user": "u1", "text": "before", "edit": "after"}, {**rows[0], "thumb": 1}]
    path.write_text("\n".join(map(json.dumps, rows)))
    for _ in range(2):
        import_files(journal, [path], "csv")
        agree(journal)
        assert totals(journal, "") == (7, 1, 101)
    journal.withdraw("", "csv:k3")
    import_files(journal, [path], "csv")
    assert totals(journal, "")[2] == 100
    export_file(journal, tmp_path / "out.parquet", "parquet")
    with Journal(tmp_path / "copy.db") as copy:
        import_files(copy, [tmp_path / "out.parquet"], "bestfor")
        agree(copy)
        assert totals(copy, "")[2] == 100


@pytest.mark.slow
def test_threads_of_two_journals_that_change_the_same_keys_count_them_once(journal, address, answer, thumb):
    with Journal(address) as other:

        def change(mine, seed):
            draw, counter = random.Random(seed), iter(range(seed * 1000, 10**6))
            for _ in range(30):
                # Whom an answer was given to may be removed before the label about it comes.
                with suppress(InputError):
                    act(mine, draw, answer, thumb, counter)

        started = [threading.Thread(target=change, args=(one, seed)) for seed, one in enumerate((journal, other) * 2)]
        for one in started:
            one.start()
        for one in started:
            one.join()
        agree(journal)


@pytest.mark.slow
def test_what_an_older_release_wrote_is_counted_once(address, answer, thumb):
    with Journal(address) as journal:
        journal.add_answers("", [answer(f"a{n}") for n in range(3)])
        journal.add_labels("", [thumb("k"), thumb("gone"), thumb("b", user="ben")])
        journal.withdraw("", "gone")
        before = journal.labels_of("", "ann")
    migrate(address, command.downgrade, "003")
    engine = create_engine(database.parse_url(address))
    with engine.begin() as connection:
        assert set(connection.execute(text("SELECT * FROM people")).keys()) == {"person", "tenant", "user", "revision"}
        connection.execute(text("DELETE FROM labels WHERE key = 'b'"))
    engine.dispose()
    for _ in range(2):
        with Journal(address) as journal:
            assert totals(journal, "") == (2, 3, 1)
            assert journal.labels_of("", "ann") == before
            agree(journal)


@pytest.mark.slow
def test_a_person_who_is_removed_while_they_say_something_leaves_no_row_that_nobody_owns(journal, address, thumb):
    with Journal(address) as other:
        done = threading.Event()

        def remove():
            while not done.is_set():
                other.forget("", "ann")

        thread = threading.Thread(target=remove)
        thread.start()
        for number in range(30):
            journal.add_labels("", [thumb(f"k{number}"), thumb(f"j{number}")])
        done.set()
        thread.join()
        agree(journal)
