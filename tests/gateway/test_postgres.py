"""Gateways whose journal is a real PostgreSQL: processes that share it, tenants, people that go, kills."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, make_url, text

from bestfor.gateway.keys import KeyFile
from support import gateway_client
from support.gateways import MESSAGES, Process, writes
from support.postgres import database

pytestmark = pytest.mark.slow
TEXTS = ("red fish", "blue bird", "old cat")


@pytest.fixture
def journal(postgres_server):
    with database(postgres_server) as address:
        yield address


@pytest.fixture
def rows(journal):
    """Reads the database past the gateway."""
    engine = create_engine(make_url(journal).set(drivername="postgresql+pg8000"), isolation_level="AUTOCOMMIT")

    def read(statement):
        with engine.connect() as connection:
            found = connection.execute(text(statement))
            return found.all() if found.returns_rows else []

    yield read
    engine.dispose()


@pytest.fixture
def process(model, journal, tmp_path, scripted):
    """Starts processes that serve one model from one journal."""
    started = []

    def start(keys="keys.json"):
        words = (model, "--upstream", scripted(writes("a", "bb bb bb")).url, "--journal", journal, "--n", "2")
        started.append(Process(*words, "--keys", tmp_path / keys))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()


def ask(http, user="eve"):
    answer = http.post("/v1/chat/completions", json={"messages": MESSAGES, "user": user})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.json()["bestfor"]


def test_two_processes_a_label_given_to_one_counts_for_the_next_answer_of_the_other(process):
    with (
        httpx2.Client(base_url=process().url, trust_env=False) as one,
        httpx2.Client(base_url=process().url, trust_env=False) as other,
    ):
        for number, (first, second) in enumerate(((one, other), (other, one)) * 5):
            user = f"eve{number}"
            _, before = ask(second, user)
            better, worse = ("a", "bb bb bb") if number % 2 else ("bb bb bb", "a")
            said = {"kind": "preference", "user": user, "prompt": "an animal", "value": better, "over": worse}
            assert first.post("/v1/feedback", json=said).status_code == 201
            _, own = ask(second, user)
            assert own["rewards"] != before["rewards"]
            assert (before["served"], own["served"]) == ("everybody", "own")
            answer = ask(first, user)[1]["answer_id"]
            # An answer of one is known to the other as soon as it is there.
            body = {"answer_id": answer, "kind": "comment", "text": "fine"}
            assert second.post("/v1/feedback", json=body).status_code == 201
            assert first.delete(f"/v1/users/{user}").json()["labels"] == 2
            assert ask(second, user)[1]["served"] == "everybody"


def test_two_tenants_with_one_user_id_never_meet(serve, journal, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    one, other = ({"Authorization": f"Bearer {keys.add(tenant, 'client')[1]}"} for tenant in ("first", "second"))
    gateway = serve(writes(*TEXTS), journal=journal)
    body = {"kind": "rating", "value": 1, "text": "blue bird", "user": "eve", "prompt": "an animal", "key": "k"}
    assert gateway.http.post("/v1/feedback", json=body, headers=one).status_code == 201
    assert gateway.http.post("/v1/feedback", json=body, headers=other).status_code == 201
    assert gateway.http.delete("/v1/feedback/k", headers=other).status_code == 200
    rewards = [
        gateway.ask(headers=key, user="eve", bestfor={"n": 3}).json()["bestfor"]["rewards"] for key in (one, other)
    ]
    assert rewards == [[0, 2, 0], [0, 0, 0]]


def test_a_person_who_is_removed_leaves_no_row(serve, journal, rows):
    gateway = serve(writes("secret7f3a words8b1d"), journal=journal)
    own = gateway.ask("eve", bestfor={"n": 1}).json()["bestfor"]
    gateway.learn(own["answer_id"], value=True)
    gateway.learn(own["answer_id"], "comment", text="a comment of eve")
    assert rows("SELECT count(*) FROM labels") == [(2,)]
    assert gateway.http.delete("/v1/users/eve").json()["labels"] == 2
    for table in ("people", "answers", "labels"):
        assert rows(f"SELECT count(*) FROM {table}") == [(0,)]
    assert rows("SELECT count(*) FROM tombstones") == [(1,)]


def test_kills_under_feedback_load_lose_nothing_that_was_acknowledged(process, rows):
    sure = {}
    for kill in range(3):
        running = process()
        words = [sys.executable, str(Path(gateway_client.__file__)), running.url, f"k{kill}", "4"]
        client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        lines = []
        with client.stdout:
            for line in client.stdout:
                lines.append(line)
                if len(lines) == 40 + 20 * kill:
                    running.kill()
        client.wait()
        sure |= dict(line.split() for line in lines)
    found = {key for (key,) in rows("SELECT key FROM labels")}
    assert len(sure) > 3 * 40
    assert set(sure) <= found


def test_a_database_that_goes_is_told_and_answers_go_on(serve, journal, rows):
    gateway = serve(writes(*TEXTS), journal=journal)
    assert gateway.ask("eve", bestfor={"n": 3}).json()["bestfor"]["served"] == "everybody"
    rows("ALTER TABLE answers RENAME TO away")
    own = gateway.ask("eve", bestfor={"n": 3}).json()["bestfor"]
    assert (own["served"], own["answer_id"]) == ("nothing", None)
    rows("ALTER TABLE away RENAME TO answers")
    assert gateway.ask("eve", bestfor={"n": 3}).json()["bestfor"]["served"] == "everybody"
