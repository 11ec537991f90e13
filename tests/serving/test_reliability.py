"""Nothing acknowledged is lost and nothing counts twice: killed clients, a full disk, two processes, python -O."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from bestfor.serving import LabelScale, Service
from bestfor.serving.journal import Journal
from support import journal_client
from support.taught import taught

CLIENT = Path(journal_client.__file__)
KILLS = 50


def client(path, prefix, threads=4, count=400, seed=0, **how):
    words = [str(word) for word in (path, prefix, threads, count, seed)]
    return subprocess.Popen([sys.executable, str(CLIENT), *words], stdout=subprocess.PIPE, text=True, **how)


class Log:
    """What clients were about to do, and what was acknowledged: the states that each key may be in."""

    def __init__(self):
        self.sure = {}
        self.pending = {}

    def read(self, lines):
        for line in lines:
            sign, thread, key, what = line.split()
            if sign == "?":
                self.pending[thread] = (key, what)
            else:
                self.sure[key] = self.after(key, what)
                del self.pending[thread]

    def after(self, key, what):
        """The state of a key after an operation: a withdrawn key stays so."""
        return "withdraw" if self.sure.get(key) == "withdraw" else what

    def allowed(self):
        states = defaultdict(set, {key: {state} for key, state in self.sure.items()})
        for key, what in self.pending.values():
            before = {self.sure[key]} if key in self.sure else {None}
            states[key] = before | {self.after(key, what)} if key in self.sure or what != "withdraw" else {None}
        return states


def found(path):
    """The state of every key in the file, read without any code of the project."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = {key: "answer" for (key,) in connection.execute("SELECT id FROM answers")}
        rows = connection.execute("SELECT key, value, withdrawn FROM labels").fetchall()
        assert len({key for key, _, _ in rows}) == len(rows)
        orphans = "SELECT count(*) FROM labels WHERE answer IS NOT NULL AND answer NOT IN (SELECT row FROM answers)"
        assert connection.execute(orphans).fetchone() == (0,)
        people = "SELECT count(*) FROM labels WHERE person NOT IN (SELECT person FROM people)"
        assert connection.execute(people).fetchone() == (0,)
    finally:
        connection.close()
    return {**states, **{key: str(int(value)) if gone is None else "withdraw" for key, value, gone in rows}}


def compare(path, log):
    states, allowed = found(path), log.allowed()
    assert {key for key in states if key not in allowed} == set()
    assert {key: (states.get(key), may) for key, may in allowed.items() if states.get(key) not in may} == {}
    return states


@pytest.mark.slow
def test_fifty_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path):
    """Each client is killed after a drawn number of acknowledgements; the next one finds the journal as it was left."""
    path, draw, log = tmp_path / "feedback.db", random.Random(20261130), Log()
    for kill in range(KILLS):
        process = client(path, f"k{kill}", threads=draw.choice((1, 2, 8)))
        wanted = draw.randrange(0, 250)
        lines = []
        for line in process.stdout:
            lines.append(line)
            wanted -= line.startswith("!")
            if wanted < 0:
                break
        process.kill()
        lines += [line for line in process.stdout if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        log.read(lines)
        states = compare(path, log)
        # What was under way when the client was killed is sent again: it counts once.
        with Journal(path) as journal:
            for thread, (key, what) in list(log.pending.items()):
                resend(journal, f"k{kill}", int(thread), key, what, states)
                log.read([f"! {thread} {key} {what}"])
        compare(path, log)
    assert len(log.sure) > 500
    states = compare(path, log)
    with Journal(path) as journal:
        counts = journal.counts()
    assert counts["answers"] == sum(state == "answer" for state in states.values())
    assert counts["withdrawn"] == sum(state == "withdraw" for state in states.values())


def resend(journal, prefix, thread, key, what, states):
    """Do again what was pending, as its client would have."""
    user, about = next(
        (user, about) for one, user, _, about in journal_client.operations(prefix, thread, 400, 0) if one == key
    )
    if what == "answer" and key in states:
        return
    journal_client.do(journal, key, user, what, about)


@pytest.mark.slow
def test_two_processes_on_one_disk_write_one_journal(tmp_path):
    path, log = tmp_path / "feedback.db", Log()
    processes = [client(path, prefix, threads=3, count=120) for prefix in ("one", "two")]
    for process in processes:
        said, _ = process.communicate()
        assert process.returncode == 0
        log.read([f"{line[:2]}{process.pid}.{line[2:]}" for line in said.splitlines()])
    assert log.pending == {}
    states = compare(path, log)
    assert states == log.sure


@pytest.mark.slow
def test_two_processes_that_send_the_same_labels_to_a_disk_count_them_once(tmp_path):
    path = tmp_path / "feedback.db"
    with Journal(path) as journal:
        for key, user, what, _ in journal_client.operations("same", 0, 150, 0):
            if what == "answer":
                journal.add_answer("", journal_client.answer(key, user))
    script = "\n".join(
        [
            "import sys; sys.path.insert(0, sys.argv[2]); from support import journal_client as c",
            "from bestfor.serving.journal import Journal",
            "with Journal(sys.argv[1]) as journal:",
            "    for key, user, what, about in c.operations('same', 0, 150, 0):",
            "        if what not in ('answer', 'withdraw'): c.do(journal, key, user, '5', about)",
        ]
    )
    words = [sys.executable, "-c", script, str(path), str(CLIENT.parent.parent)]
    processes = [subprocess.Popen(words) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    keys = {k for k, _, what, _ in journal_client.operations("same", 0, 150, 0) if what not in ("answer", "withdraw")}
    assert {key: state for key, state in found(path).items() if state != "answer"} == dict.fromkeys(keys, "5")


FULL = """
import resource, sys
from dataclasses import replace
from bestfor.serving.journal import Journal, JournalError, Label
path, limit = sys.argv[1], int(sys.argv[2])
before = resource.getrlimit(resource.RLIMIT_FSIZE)
label = Label("k", "ann", "rating", value=1.0, low=0.0, high=1.0, texts=("word " * 400,), time=1.0)
with Journal(path) as journal:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    stored, said = 0, []
    for number in range(5000):
        try:
            journal.add_labels("", [replace(label, key=f"k{number}")])
            stored += 1
        except JournalError as error:
            said.append(str(error))
            if len(said) == 3:
                break
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.add_labels("", [replace(label, key="after")])
        stored += 1
for line in said:
    print(line)
print(stored)
"""


def fill(path, limit=0):
    done = subprocess.run([sys.executable, "-c", FULL, str(path), str(limit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, stored = done.stdout.splitlines()
    assert len(said) == 3
    for line in said:
        assert line.startswith(f"journal {path}: the disk is full or cannot be written (")
        assert line.endswith("nothing of this call was stored")
    return int(stored)


def test_a_disk_that_takes_no_more_is_one_line_and_no_half_row(tmp_path):
    path = tmp_path / "feedback.db"
    stored = fill(path, 200_000)
    states = found(path)
    assert len(states) == stored > 10
    assert "after" in states


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    words = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if mount is None or os.getuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no permission to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_line_and_no_half_row(small_disk, tmp_path):
    path = small_disk / "feedback.db"
    (small_disk / "filler").write_bytes(bytes(500_000))
    stored = fill(path)
    for one in sorted(small_disk.iterdir()):
        shutil.copy(one, tmp_path)
    states = found(tmp_path / "feedback.db")
    assert len(states) == stored > 40
    (small_disk / "filler").unlink()
    with Journal(path) as journal:
        assert journal.forget("", "ann")[:2] == (0, stored)
        assert journal.counts()["labels"] == {}


OTHER = """
import sys
sys.path.insert(0, sys.argv[2])
from bestfor.serving import LabelScale, Service
from support.taught import taught
with Service(taught("ann"), sys.argv[1], scale=LabelScale(-1, 1)) as service:
    print("open", flush=True)
    for line in sys.stdin:
        what = line.split()[0]
        if what == "learn":
            service.learn(user="ann", text="blue fish", rating=1.0, key=line.split()[1])
        elif what == "withdraw":
            service.withdraw(line.split()[1])
        else:
            service.forget("ann")
        print("done", flush=True)
"""


@pytest.mark.slow
def test_what_one_process_stores_counts_in_the_next_answer_of_another(tmp_path):
    """Many turns, without a wait between the one's receipt and the other's request."""
    texts, path = ["red fish", "blue fish"], tmp_path / "feedback.db"
    words = [sys.executable, "-c", OTHER, str(path), str(CLIENT.parent.parent)]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
        Service(taught("ann"), path, scale=LabelScale(-1, 1)) as service,
    ):
        assert other.stdout.readline() == "open\n"

        def told(what):
            other.stdin.write(what + "\n")
            other.stdin.flush()
            assert other.stdout.readline() == "done\n"

        def liked():
            return service.answer("ann", "", texts).scores.mean.tolist()

        for turn in range(40):
            assert liked() == [0.0, 0.0]
            told(f"learn k{turn}")
            assert liked() == [1.0, 2.0]
            told(f"withdraw k{turn}")
        service.learn(user="ann", text="blue fish", rating=1.0)
        assert liked() == [1.0, 2.0]
        told("forget")
        assert liked() == [0.0, 0.0]
        other.stdin.close()
        assert other.wait() == 0


FLOW = """
import sys
sys.path.insert(0, sys.argv[2])
from bestfor.serving import LabelScale, Service
from support.taught import taught
texts = ["red fish", "blue fish"]
with Service(taught("ann"), sys.argv[1], explore=0.2, scale=LabelScale(-1, 1)) as service:
    first = service.answer("ann", "", texts, id="a1")
    print(first.text, first.chances, service.learn("a1", rating=0.9, text="blue fish", key="k"))
    print(service.learn("a1", rating=0.9, text="blue fish", key="k"), service.withdraw("k"), service.withdraw("k"))
    print(service.answer("ann", "", texts, id="a2").scores, service.forget("ann"))
    for bad in (lambda: service.learn("a1", thumb=True), lambda: service.answer("ann", "", [])):
        try:
            bad()
        except Exception as error:
            print(type(error).__name__, error)
    print(service.journal.counts()["forgotten"])
"""


@pytest.mark.slow
def test_nothing_hides_in_assertions(tmp_path):
    said = []
    for options in ([], ["-O"]):
        path = tmp_path / "feedback.db"
        path.unlink(missing_ok=True)
        words = [sys.executable, *options, "-c", FLOW, str(path), str(CLIENT.parent.parent)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert said[0].count("InputError") == 2
