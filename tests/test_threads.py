"""Threads of matrix libraries: limited for a call, and what was set is back after it."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bestfor import threads
from bestfor.data.candidates import Candidates
from bestfor.encoders import load_encoder
from bestfor.rewards import build
from bestfor.threads import SMALL, for_size, one_thread
from support import later

torch = later("torch")


def counts():
    """Threads of every library that is loaded, and torch's."""
    return {one["filepath"]: one["num_threads"] for one in threadpool_info()} | {"torch": torch.get_num_threads()}


@pytest.fixture(autouse=True)
def three():
    # Loads every library that is counted.
    load_encoder()
    before = torch.get_num_threads()
    with threadpool_limits(3):
        torch.set_num_threads(3)
        yield
        torch.set_num_threads(before)


def test_one_inside_and_as_before_after():
    before = counts()
    assert set(before.values()) == {3}
    with one_thread():
        assert set(counts().values()) == {1}
        with one_thread():
            assert set(counts().values()) == {1}
        assert set(counts().values()) == {1}
    assert counts() == before


def test_an_error_gives_the_threads_back():
    before = counts()
    with pytest.raises(ZeroDivisionError), one_thread():
        1 / 0  # noqa: B018
    assert counts() == before
    with one_thread():
        assert set(counts().values()) == {1}


def test_large_matrices_keep_their_threads():
    before = counts()
    with for_size(SMALL + 1):
        assert counts() == before
    with for_size(SMALL):
        assert set(counts().values()) == {1}


def test_calls_that_overlap_give_back_what_was_before_the_first():
    before, order = counts(), [threading.Event() for _ in range(3)]
    seen = {}

    def second():
        order[0].wait(10)
        with one_thread():
            seen["second"] = set(counts().values())
            order[1].set()
            order[2].wait(10)
            seen["after the first"] = set(counts().values())

    thread = threading.Thread(target=second)
    thread.start()
    with one_thread():
        order[0].set()
        assert order[1].wait(10)
    order[2].set()
    thread.join(10)
    assert seen == {"second": {1}, "after the first": {1}}
    assert counts() == before


def test_many_threads_at_once_leave_nothing_behind():
    before, wrong = counts(), []

    def often():
        for _ in range(200):
            with one_thread():
                if torch.get_num_threads() != 1:
                    wrong.append(1)

    workers = [threading.Thread(target=often) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert wrong == []
    assert counts() == before


def test_a_thread_that_begins_meanwhile_has_torchs_own_number_of_threads():
    seen = []
    with one_thread():
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join(10)
    assert seen == [3]


def busy_threads(work):
    """How many of the process's threads take processor time in some work."""

    def taken():
        found = {}
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            found[task] = int(fields[11]) + int(fields[12])
        return found

    before = taken()
    work()
    return sum(value - before.get(task, 0) > 1 for task, value in taken().items())


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts processor time by Linux's files")
def test_products_take_one_thread_even_where_torch_was_told_another_number():
    left, right = torch.rand(900, 900), np.ones((900, 900))

    def work():
        for _ in range(12):
            left @ left
            right @ right

    with one_thread():
        assert busy_threads(work) == 1


@pytest.fixture
def seen_inside(monkeypatch):
    """Counts of threads in every limited part that follows."""
    found, enter = [], threads._ProcessLimit.__enter__

    def spy(self):
        enter(self)
        found.append({one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"})

    monkeypatch.setattr(threads._ProcessLimit, "__enter__", spy)
    return found


def votes(users=6, texts=9):
    names, words = (
        tuple(f"u{user}" for user in range(users)),
        tuple(f"text {text} of the council" for text in range(texts)),
    )
    user, text = np.repeat(np.arange(users), texts), np.tile(np.arange(texts), users)
    utility = np.random.default_rng(0).normal(size=len(user))
    return Candidates(names, names, ("",) * users, words, user, user, text, text, utility, np.full(len(user), np.nan))


@pytest.mark.parametrize("kind", ["hierarchical", "pooled", "ridge", "tastes", "point"])
def test_fits_and_predictions_take_one_thread_and_leave_the_others(kind, seen_inside):
    before, examples = counts(), votes()
    model = build(kind, encoder=load_encoder())
    model.fit(examples, rng=0)
    fitted = len(seen_inside)
    model.predict(examples)
    assert fitted > 0
    assert all(inside == {1} for inside in seen_inside)
    assert counts() == before


def test_a_small_encoder_gives_the_same_bits_with_any_threads_and_company(monkeypatch):
    encoder = load_encoder().encoder
    assert encoder.single
    texts = [f"Headline {number} " + "about the council " * (number % 5) for number in range(24)]
    before = counts()
    whole = encoder.encode(texts)
    for workers in (1, 3):
        monkeypatch.setattr(encoder, "workers", workers)
        np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], whole)
        np.testing.assert_array_equal(encoder.encode(texts[:1]), whole[:1])
    monkeypatch.setattr(encoder, "single", False)
    np.testing.assert_allclose(encoder.encode(texts), whole, atol=1e-6)
    assert counts() == before


def test_importing_changes_no_environment_and_no_threads():
    code = (
        "import os; before = dict(os.environ); import torch; n = torch.get_num_threads()\n"
        "import bestfor, bestfor.rewards.hierarchical, bestfor.rewards.heads.training, bestfor.encoders\n"
        "assert dict(os.environ) == before and torch.get_num_threads() == n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
