"""Journals as logs of shown answers."""

import hashlib
import json
import sys

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sqlalchemy")

from bestfor.__main__ import main
from bestfor.errors import InputError
from bestfor.report.logs import render_log_html
from bestfor.runs.logs import diagnose_log_table
from bestfor.serving.journal import Journal, Label, LoggedAnswer, database
from bestfor.serving.labels import LabelScale
from bestfor.serving.logs import JournalSource, diagnose_journal

SIZE = 4


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "feedback.db") as opened:
        yield opened


def drawn(count=80, *, seed=0):
    """Answers shown at random, with the outcome of each; yields user, number, rewards, which was shown, outcome."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        reward = draw.standard_normal(SIZE)
        utility = (draw.random(SIZE) < 1 / (1 + np.exp(-reward))).astype(float)
        shown = int(draw.integers(SIZE))
        yield f"u{number // 4}", number, tuple(reward.tolist()), shown, float(utility[shown])


def logged(number, user, mean, shown, **values):
    texts = tuple(f"text {number} {place}" for place in range(SIZE))
    known = {"chances": (1 / SIZE,) * SIZE, "rule": "epsilon:1", "model": "m", "served": "own", "tokens": None}
    known |= {"std": None, "time": 1000.0 + number, "texts": texts, "prompt": f"prompt {number}", "hashed": False}
    return LoggedAnswer(id=f"a{number}", user=user, mean=mean, chosen=shown, **{**known, **values})


def fill(journal, kind="rating", count=80, **values):
    for user, number, mean, shown, outcome in drawn(count):
        answer = logged(number, user, mean, shown, **values)
        journal.add_answer("", answer)
        label = Label(f"k{number}", user, kind, answer.id, outcome, texts=(answer.shown,), time=2000.0 + number)
        journal.add_labels("", [label])


def table(count=80):
    rows = [
        {"user": user, "query": number, "reward": mean[j], "chance": 1 / SIZE, "shown": int(j == shown)}
        | {"utility": outcome if j == shown else None}
        for user, number, mean, shown, outcome in drawn(count)
        for j in range(SIZE)
    ]
    return pd.DataFrame(rows)


def test_a_journal_tells_what_its_table_would(journal):
    fill(journal)
    found, expected = diagnose_journal(journal), diagnose_log_table(table())
    mine, theirs = found.models["journal"], expected.models["reward"]
    for estimator in ("ips", "snips", "dr"):
        assert mine.gain[estimator].value == pytest.approx(theirs.gain[estimator].value)
    # which users predict which others goes by their order, which is the same
    assert mine.gain["dr"].low == pytest.approx(theirs.gain["dr"].low)
    assert (found.name, found.pools, found.users, found.logged) == ("feedback", 80, 20, expected.logged)
    json.dumps(found.to_dict(), allow_nan=False)


def test_only_what_holds_of_the_shown_text_counts(journal):
    fill(journal, "thumb")
    base = diagnose_journal(journal)
    shown = logged(0, "u0", (0.0,) * SIZE, next(drawn(1))[3])
    other = next(text for text in shown.texts if text != shown.shown)
    journal.add_labels("", [Label("other", "u0", "rating", "a0", 0.0, texts=(other,), time=1.0)])
    journal.add_labels("", [Label("gone", "u0", "rating", "a0", 0.0, texts=(shown.shown,), time=1.0)])
    journal.withdraw("", "gone")
    journal.add_labels("", [Label("words", "u0", "comment", "a0", texts=("so so", shown.shown), time=1.0)])
    journal.add_labels("", [Label("better", "u0", "preference", "a0", texts=(other, shown.shown), time=1.0)])
    found = diagnose_journal(journal)
    assert found.logged == base.logged
    assert "1 labels were left out: other kinds than asked for, or not about the shown text" in found.notes
    assert "1 preferences tell no outcome of the shown answer by itself" in found.notes


def test_several_signals_are_their_weighted_mean(journal):
    fill(journal, "thumb")
    user, _, mean, shown, outcome = next(drawn(1))
    text = logged(0, user, mean, shown).shown
    journal.add_labels("", [Label("r", user, "rating", "a0", 4.0, 0.0, 5.0, texts=(text,), weight=3.0, time=1.0)])
    found = diagnose_journal(journal)
    thumb = 0.75 if outcome else 0.25
    rest = sum(0.75 if one[4] else 0.25 for one in drawn()) - thumb
    assert found.logged == pytest.approx((rest + (thumb + 3 * 0.8) / 4) / 80)
    only = diagnose_journal(journal, JournalSource(signals=("thumb",)))
    assert only.logged == pytest.approx((rest + thumb) / 80)


def test_the_unit_is_the_share_of_the_scale(journal):
    fill(journal)
    far = diagnose_journal(journal, JournalSource(scale=LabelScale(-10.0, 30.0)))
    assert far.logged == pytest.approx(diagnose_journal(journal).logged)


def test_hashed_texts_do(journal):
    for user, number, mean, shown, outcome in drawn():
        texts = tuple(hashlib.sha256(f"text {number} {place}".encode()).hexdigest() for place in range(SIZE))
        answer = logged(number, user, mean, shown, texts=texts, hashed=True)
        journal.add_answer("", answer)
        given, hashed = (f"text {number} {shown}", False) if number % 2 else (answer.shown, True)
        label = Label(f"k{number}", user, "rating", answer.id, outcome, texts=(given,), time=1.0, hashed=hashed)
        journal.add_labels("", [label])
    found = diagnose_journal(journal)
    value = diagnose_log_table(table()).models["reward"].gain["ips"].value
    assert found.models["journal"].gain["ips"].value == pytest.approx(value)
    with pytest.raises(InputError, match="hashes in the place of texts"):
        diagnose_journal(journal, JournalSource(models=("nowhere",)))


def test_silence_is_refused_unless_it_is_an_outcome(journal):
    fill(journal)
    for number in range(30):
        journal.withdraw("", f"k{number}")
    with pytest.raises(InputError, match=r"outcomes for 50 of 80 shown answers \(62%\); expected 90%, or --silence"):
        diagnose_journal(journal)
    found = diagnose_journal(journal, JournalSource(silence=0.0))
    assert found.pools == 80
    assert found.logged == pytest.approx(sum(one[4] for one in drawn() if one[1] >= 30) / 80)


def test_refusals(journal):
    with pytest.raises(InputError, match="found no answers"):
        diagnose_journal(journal)
    fill(journal, chances=(1.0, 0.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"a shown answer of chance 0|the logger took the best"):
        diagnose_journal(journal)
    with pytest.raises(InputError, match="--signal: found 'thumbs'; expected 'thumb'"):
        JournalSource(signals=("thumbs",))
    with pytest.raises(InputError, match="--silence: found 2; expected an outcome"):
        JournalSource(silence=2)


def test_a_rule_that_took_the_best_is_refused(journal):
    for user, number, mean, _, outcome in drawn():
        best = int(np.argmax(mean))
        chances = tuple(float(place == best) for place in range(SIZE))
        answer = logged(number, user, mean, best, chances=chances, rule="best")
        journal.add_answer("", answer)
        journal.add_labels("", [Label(f"k{number}", user, "rating", answer.id, outcome, texts=(answer.shown,))])
    with pytest.raises(InputError, match="the logger took the best"):
        diagnose_journal(journal)


def test_answers_without_rewards_and_several_models_are_told(journal):
    fill(journal)
    journal.add_answer("", logged(99, "u0", (None, 1.0, 2.0, 3.0), 0, model="n"))
    journal.add_answer("", logged(98, "u0", (0.0, 1.0, 2.0, 3.0), 0, model="n"))
    found = diagnose_journal(journal)
    assert (found.pools, found.shown) == (80, 81)
    assert "1 answers were left out: a model had no reward for a candidate" in found.notes
    assert any("are of 2 models one after another" in note for note in found.notes)


def test_tenants_are_apart(journal):
    fill(journal)
    journal.add_answer("theirs", logged(0, "u0", (0.0,) * SIZE, 0))
    journal.add_labels("theirs", [Label("k0", "u0", "rating", "a0", 1.0, texts=("text 0 0",))])
    assert diagnose_journal(journal, JournalSource(tenant="")).pools == 80
    everybody = diagnose_journal(journal)
    assert (everybody.pools, everybody.users) == (81, 21)


def test_another_model_is_judged_on_the_same_answers(journal, tmp_path):
    import bestfor as bf
    from bestfor.rewards import KINDS

    fill(journal)
    fit = bf.Candidates.of(["u0", "u1"], ["p", "q"], [["a", "a long text"], ["b", "a longer text"]], [[0, 1], [0, 1]])
    KINDS["length"]().fit(fit, rng=0).save(tmp_path / "long")
    found = diagnose_journal(journal, JournalSource(models=(tmp_path / "long",)))
    assert list(found.models) == ["journal", "long"]
    page = render_log_html(found)
    assert page == render_log_html(found)
    assert page.count('<svg class="chart wide"') == 1
    assert "http" not in page.replace("http-equiv", "")


def test_the_verb(journal, tmp_path, monkeypatch, capsys):
    fill(journal)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", "diagnose", *(str(word) for word in words)])
        return main(), *capsys.readouterr()

    place, out = tmp_path / "feedback.db", tmp_path / "log.html"
    code, said, _ = call("--journal", f"sqlite:///{place}", "--out", out, "--json")
    assert (code, json.loads(said)["pools"]) == (0, 80)
    assert "80 shown answers" in out.read_text()
    code, said, _ = call("--journal", place, "--n", "1,2")
    assert code == 0
    assert "journal: gain of the best of N" in said
    assert call("--journal", tmp_path / "none.db")[0] == 2
    code, _, error = call(out, "--journal", place)
    assert (code, "TABLE: found --journal as well" in error) == (2, True)
    code, _, error = call()
    assert (code, "nothing to diagnose" in error) == (2, True)
    code, _, error = call(out, "--silence", "0")
    assert (code, "--silence: found no --journal" in error) == (2, True)


def test_a_page_of_a_table(tmp_path, monkeypatch, capsys):
    table().to_csv(tmp_path / "log.csv", index=False)
    words = ["diagnose", tmp_path / "log.csv", "--shown", "shown", "--chance", "chance", "--out", tmp_path / "l.html"]
    monkeypatch.setattr(sys, "argv", ["bestfor", *(str(word) for word in words)])
    assert main() == 0
    capsys.readouterr()
    assert "<bdi>reward</bdi>" in (tmp_path / "l.html").read_text()
