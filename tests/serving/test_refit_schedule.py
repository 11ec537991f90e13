"""Refits are begun once, when a journal has grown or somebody was forgotten, and all gateways find the newest."""

import json
import re
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("sqlalchemy")

from bestfor import artifacts
from bestfor.__main__ import main
from bestfor.errors import InputError
from bestfor.serving.base import open_model
from bestfor.serving.journal import Journal
from bestfor.serving.journal.refits import LEASE, claim_refit, end_refit, refits_of
from bestfor.serving.refit_schedule import KEPT, RefitPolicy, growth, keep_fresh, newest, remove_old
from support.grown import noise_run, rate_lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return noise_run(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def model(folder):
    return open_model(folder)


def test_growth_is_counted_from_the_last_refit(journal, model):
    policy = RefitPolicy(share=0.5, least=10)
    rows = pq.read_metadata(model.run / "utilities" / "rating.parquet").num_rows
    assert growth(journal, "", model, policy).needed == rows // 2
    assert not growth(journal, "", model, policy).due
    rate_lengths(journal, people=2)
    found = growth(journal, "", model, policy)
    assert (found.new, found.due, str(found)) == (40, True, f"due: 40 new labels, {rows // 2} make a refit due")
    assert not growth(journal, "other", model, policy).due
    number = claim_refit(journal, "", model.digest)
    end_refit(journal, "", model.digest, number, "kept", "", {"reason": "shown to be worse"})
    found = growth(journal, "", model, policy)
    assert (found.new, found.needed, found.due) == (0, (rows + 40) // 2, False)
    assert growth(journal, "", model, RefitPolicy(least=1000)).needed == 1000


def test_one_refit_at_a_time_and_a_dead_one_is_taken_over(journal, monkeypatch):
    assert claim_refit(journal, "", "base") == 1
    assert claim_refit(journal, "", "base") is None
    assert claim_refit(journal, "other", "base") == 1
    assert claim_refit(journal, "", "another model") == 1
    monkeypatch.setattr("bestfor.serving.journal.refits.LEASE", -1.0)
    assert claim_refit(journal, "", "base") == 2
    states = [(one.number, one.state) for one in refits_of(journal, "base", "")]
    assert states == [(1, "failed"), (2, "fitting")]
    assert LEASE > 600


def test_of_many_who_begin_at_once_one_does(address):
    journals = [Journal(address) for _ in range(4)]
    begun, together = [], threading.Barrier(8)

    def begin(journal):
        together.wait()
        begun.append(claim_refit(journal, "", "base"))

    threads = [threading.Thread(target=begin, args=(journals[place % 4],)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for journal in journals:
        journal.close()
    assert sorted(begun, key=str) == [1, *[None] * 7]


@pytest.mark.slow
def test_what_was_taken_is_the_newest_and_old_folders_go(journal, model, tmp_path):
    rate_lengths(journal)
    policy = RefitPolicy(folder=str(tmp_path / "new"))
    assert newest(journal, "", model) is None
    folders = []
    for number in range(1, KEPT + 2):
        done = keep_fresh(journal, model, "", policy)
        assert (done.number, done.state) == (number, "swapped")
        assert done.report["people"] == 12
        assert done.report["seconds"] > 0
        folders.append(newest(journal, "", model))
        assert str(folders[-1]) == done.folder
    assert [one.is_dir() for one in folders] == [False, *[True] * KEPT]
    assert newest(journal, "other", model) is None


@pytest.mark.slow
def test_whoever_was_forgotten_is_in_no_model_after_the_next_refit(journal, model, tmp_path):
    rate_lengths(journal)
    policy = RefitPolicy(folder=str(tmp_path / "new"))
    first = keep_fresh(journal, model, "", policy)
    names = artifacts.read(tmp_path / "new" / first.folder.rsplit("/")[-1]).users
    assert any(name.startswith("n3") for name in names)
    assert not growth(journal, "", model, policy).due
    journal.forget("", "n3")
    found = growth(journal, "", model, policy)
    assert (found.due, str(found)) == (True, "due: somebody was forgotten since the last refit")
    second = keep_fresh(journal, model, "", policy)
    names = artifacts.read(tmp_path / "new" / second.folder.rsplit("/")[-1]).users
    assert not any(name.startswith("n3") for name in names)
    # The one that knows them stays while a gateway may still serve it, and no longer.
    assert Path(first.folder).is_dir()
    remove_old(journal, "", model, served_after=0.0)
    assert [one.name for one in (tmp_path / "new").iterdir()] == [Path(second.folder).name]
    assert not growth(journal, "", model, policy).due


@pytest.mark.slow
def test_a_model_that_holds_somebody_who_was_forgotten_goes_whatever_the_losses_say(journal, model, tmp_path):
    rate_lengths(journal)
    policy = RefitPolicy(folder=str(tmp_path / "new"))
    first = keep_fresh(journal, model, "", policy)
    for _, user in list(journal.people(""))[2:]:
        journal.forget("", user)
    second = keep_fresh(journal, model, "", policy)
    assert second.state == "swapped"
    assert re.match(
        "somebody was forgotten since the last refit; . people have held-out labels", second.report["reason"]
    )
    remove_old(journal, "", model, served_after=0.0)
    assert not Path(first.folder).exists()
    assert not growth(journal, "", model, policy).due


def test_a_refit_that_fails_says_why(journal, model, monkeypatch):
    rate_lengths(journal, people=2)

    def broken(*_, **__):
        raise InputError("refit", "no labels", "some")

    monkeypatch.setattr("bestfor.serving.refit_schedule.renew", broken)
    with pytest.raises(InputError):
        keep_fresh(journal, model)
    (one,) = refits_of(journal)
    assert (one.state, one.report) == ("failed", {"reason": "refit: found no labels; expected some"})
    assert one.ended >= one.begun


@pytest.mark.parametrize(("values", "line"), [({"share": 0}, "refit.share: found 0"), ({"least": 0}, "refit.least")])
def test_policies_are_checked(values, line):
    with pytest.raises(InputError, match=line):
        RefitPolicy(**values)


@pytest.mark.slow
def test_the_verb_refit(folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "feedback.db"
    with Journal(path) as journal:
        rate_lengths(journal)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", "refit", str(folder), "--out", str(tmp_path / "new"), *words])
        code = main()
        return code, capsys.readouterr().out

    monkeypatch.setenv("BESTFOR_JOURNAL", str(path))
    code, out = call("--least", "500")
    assert (code, out) == (0, "not due: 240 new labels, 500 make a refit due\n")
    code, out = call()
    assert code == 0
    assert out.startswith("swapped, not shown to be worse on held-out labels: loss ")
    code, out = call("--now", "--json")
    assert json.loads(out)["number"] == 2
    code, out = call("--json")
    assert json.loads(out)["state"] == "not due"
