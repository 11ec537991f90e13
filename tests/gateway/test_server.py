"""The command line: a process that serves, is killed and loses nothing; keys; what it refuses in one line."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from bestfor.cli.app import main
from support import gateway_client
from support.gateways import MESSAGES, Process, writes

CLIENT = Path(gateway_client.__file__)


def run(monkeypatch, *words):
    """Run the command line in this process; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["bestfor", *map(str, words)])
    return main()


@pytest.mark.slow
def test_a_process_serves_a_model_and_ends_when_asked(model, tmp_path, scripted):
    upstream = scripted(writes("a", "dddd dddd dddd dddd"))
    journal = tmp_path / "feedback.db"
    running = Process(model, "--upstream", upstream.url, "--journal", journal, "--keys", tmp_path / "k", "--n", 2)
    assert "rule 'best' shows one answer with chance 1" in running.said
    assert f"candidates from {upstream.url}; journal {journal}" in " ".join(running.said.split())
    with httpx2.Client(base_url=running.url, trust_env=False) as http:
        for user, text in (("ann", "dddd dddd dddd dddd"), ("ben", "a")):
            answer = http.post("/v1/chat/completions", json={"messages": MESSAGES, "user": user})
            assert answer.json()["choices"][0]["message"]["content"] == text
    # Features of the texts' surface need no torch.
    assert "torch" not in Path(f"/proc/{running.process.pid}/maps").read_text()
    assert running.stop() in (0, -15)
    lines = re.findall(r"POST /v1/chat/completions 200 [\d.]+ ms user=([0-9a-f]{12})", running.said)
    assert len(set(lines)) == 2
    assert not re.search("ann|ben", running.said.partition("(stop with Ctrl+C)")[2])
    assert "Traceback" not in running.said


@pytest.mark.slow
def test_kills_under_feedback_load_lose_nothing_that_was_acknowledged_on_the_disk(model, tmp_path, scripted):
    journal, sure = tmp_path / "feedback.db", {}
    words = (model, "--upstream", scripted(writes()).url, "--journal", journal, "--keys", tmp_path / "k")
    for kill in range(8):
        running = Process(*words)
        client = subprocess.Popen(
            [sys.executable, str(CLIENT), running.url, f"k{kill}", "4"], stdout=subprocess.PIPE, text=True
        )
        lines = []
        with client.stdout:
            for line in client.stdout:
                lines.append(line)
                if len(lines) == 40 + 20 * kill:
                    running.kill()
        client.wait()
        sure |= dict(line.split() for line in lines)
        with closing(sqlite3.connect(journal)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute("SELECT key, texts FROM labels").fetchall()
            found = {key: json.loads(texts)[0].split()[0] for key, texts in rows}
        assert {key: value for key, value in sure.items() if found.get(key) != value} == {}
    assert len(sure) > 8 * 40


REQUESTS = int(os.environ.get("BESTFOR_FAULTS", "150"))
"""Requests of each kind of fault; 1,000 take some minutes."""

FAULTS = ("drop", "reset", "half", 400, 401, 429, 500, 503, "within", "empty")


@pytest.mark.slow
def test_ten_kinds_of_faults_in_many_requests_and_no_wrong_status(serve):
    """Of three candidates some fail, by turns; all statuses are those that the upstream's answers imply."""
    from support.servers import DROP, HALF, RESET, chat, error

    replies = {"drop": DROP, "reset": RESET, "half": HALF, "within": {"error": {"message": "x", "code": 529}}}
    replies["empty"] = {"choices": []}
    expected = {"drop": 502, "reset": 502, "half": 502, "within": 529, "empty": 502}
    lock, now, failing = threading.Lock(), [], {"left": 0}

    def answer(request):
        with lock:
            failing["left"] -= 1
            fails = failing["left"] >= 0
        fault = now[-1]
        if not fails:
            return chat("red fish")
        return replies[fault] if isinstance(fault, str) else error(fault, "no", {"Retry-After": "3"})

    gateway = serve(answer, upstream={"n": "no", "failures": 10**9})
    for fault in FAULTS:
        now.append(fault)
        # Connections that break before an answer are tried once more.
        copies = 2 if fault in ("drop", "reset") else 1
        for number in range(REQUESTS):
            count = (0, 1, 3)[number % 3]
            with lock:
                failing["left"] = count * copies
            answered = gateway.ask("ann", bestfor={"n": 3})
            status = expected.get(fault, fault) if count == 3 else 200
            assert answered.status_code == status, (fault, number, answered.text)
            if status == 200 and copies == 1:
                assert answered.json()["bestfor"]["received"] == 3 - count


def test_keys_are_made_listed_revoked_and_rotated(tmp_path, monkeypatch, capsys):
    file = tmp_path / "keys.json"

    def say(*words):
        assert run(monkeypatch, "keys", *words, "--keys", file) == 0
        return capsys.readouterr().out

    made = json.loads(say("add", "acme", "--admin", "--json"))
    assert (made["tenant"], made["role"]) == ("acme", "admin")
    assert re.fullmatch(r"bf-[0-9a-f]{8}-[\w-]{43}\n", say("add", "acme"))
    listed = say("list")
    assert made["id"] in listed
    assert made["key"] not in listed
    before = json.loads(file.read_text())["signing"]
    say("rotate")
    assert json.loads(file.read_text())["signing"] != before
    say("revoke", made["id"])
    assert [one["role"] for one in json.loads(file.read_text())["keys"]] == ["client"]


def test_what_cannot_be_served_is_one_line(tmp_path, model, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (("serve",), "serve: found no model"),
        (("serve", tmp_path / "none"), "found no model"),
        (("serve", model, "--model", "x"), "--model: found no upstream"),
        (("serve", model, "--upstream", "ftp://x"), "base_url: found"),
        (("serve", model, "--host", "0.0.0.0", "--port", "0"), "which other machines can reach, without API keys"),
        (("serve", model, "--rule", "bset", "--upstream", "http://127.0.0.1:9/v1"), "rule: found 'bset'"),
    ):
        assert run(monkeypatch, *words) == 2, words
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
