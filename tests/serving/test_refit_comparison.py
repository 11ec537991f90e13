"""A grown journal's model is compared on held-out labels before it takes the present one's place."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sqlalchemy")

from bestfor.serving.base import open_model, scale_of
from bestfor.serving.journal import Journal
from bestfor.serving.labels import to_labels
from bestfor.serving.refit import Source
from bestfor.serving.refit_comparison import FEWEST, JournalPart, _decide, is_held_out, renew
from support.grown import noise_run, rate_lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return noise_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def source(folder, tmp_path):
    with Journal(tmp_path / "feedback.db") as journal:
        yield Source(journal, "", replace(scale_of(folder), rating=(0.0, 1.0)), lambda known: None)


def test_parts_are_disjoint_whole_and_keep_prompts_together(source):
    rate_lengths(source.journal, people=3)
    for user in ("n0", "n1", "n2"):
        every = [label.key for label, _ in source.journal.labels_of("", user)]
        parts = [JournalPart(source.journal, held_out=one).labels_of("", user) for one in (False, True)]
        keys = [[label.key for label, _ in part] for part in parts]
        assert sorted(keys[0] + keys[1]) == sorted(every)
        assert keys[1]
        assert all(is_held_out("", user, label.prompt) for label, _ in parts[1])
    assert is_held_out("", "n0", "p") == is_held_out("", "n0", "p")
    shares = [np.mean([is_held_out(tenant, f"u{u}", f"p{p}") for u in range(40) for p in range(40)]) for tenant in "ab"]
    assert shares == pytest.approx([0.2, 0.2], abs=0.04)


def test_a_better_model_is_taken_and_was_never_shown_the_held_out_labels(folder, source, tmp_path):
    rate_lengths(source.journal)
    present = open_model(folder)
    done = renew(present, tmp_path / "new", source)
    assert done.decision == "swapped"
    assert done.loss_after < done.loss_before
    assert done.low < done.difference < 0
    assert (tmp_path / "new" / "config.json").is_file()
    assert not (tmp_path / "new-trial").exists()
    assert done.rows[1] == 240
    assert done.people == 12
    # The figures, from the two models by hand: fitted without the held-out labels, persons made without them.
    scale = source.scale
    seen = [
        (user, label)
        for user in (f"n{n}" for n in range(12))
        for label, _ in source.journal.labels_of("", user)
        if not is_held_out("", user, label.prompt)
    ]
    before = []
    for user in (f"n{n}" for n in range(12)):
        labels = source.journal.labels_of("", user)
        held = [label for label, _ in labels if is_held_out("", user, label.prompt)]
        known, _ = to_labels([pair for pair in labels if pair[0] not in held], scale)
        person = present.model.person(user, known)
        errors = [
            (person.score(one.prompt, one.texts).mean[0] - scale.utility(one.value)) / (scale.best - scale.worst)
            for one in held
        ]
        before.append(np.mean(np.square(errors)))
    assert done.loss_before == pytest.approx(np.mean(before), rel=1e-12)
    assert done.labels == 240 - len(seen)


@pytest.mark.slow
def test_a_model_that_is_worse_is_not_taken(folder, source, tmp_path):
    rate_lengths(source.journal)
    good = renew(open_model(folder), tmp_path / "good", source)
    assert good.decision == "swapped"
    losses = np.column_stack([np.full(30, 0.1), 0.1 + np.linspace(0.01, 0.03, 30)])
    found = _decide(losses, 90)
    assert (found.decision, found.folder) == ("kept", None)
    assert found.low > 0
    assert found.difference == pytest.approx(0.02)
    assert _decide(losses[:, ::-1], 90).decision == "swapped"
    level = np.column_stack([np.full(30, 0.1), 0.1 + np.tile([-0.02, 0.02], 15)])
    assert _decide(level, 90).reason == "not shown to be worse on held-out labels"


def test_few_people_decide_nothing(folder, source, tmp_path):
    rate_lengths(source.journal, people=FEWEST - 1)
    done = renew(open_model(folder), tmp_path / "new", source)
    assert (done.decision, done.people) == ("kept", FEWEST - 1)
    assert done.reason == f"{FEWEST - 1} people have held-out labels; {FEWEST} are needed to compare"
    assert not (tmp_path / "new").exists()


def test_nothing_of_a_trial_is_left_when_it_fails(folder, source, tmp_path, monkeypatch):
    rate_lengths(source.journal, people=6)

    def broken(*_, **__):
        raise OSError("gone")

    monkeypatch.setattr("bestfor.serving.refit_comparison._losses", broken)
    with pytest.raises(OSError, match="gone"):
        renew(open_model(folder), tmp_path / "new", source)
    assert list(tmp_path.glob("new*")) == []


@pytest.mark.slow
def test_the_same_journal_decides_the_same(folder, source, tmp_path):
    rate_lengths(source.journal, people=8)
    done = renew(open_model(folder), tmp_path / "a", source)
    again = renew(open_model(shutil.copytree(folder, tmp_path / "copy")), tmp_path / "b", source)
    assert replace(done, folder=None) == replace(again, folder=None)
