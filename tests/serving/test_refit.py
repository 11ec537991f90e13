"""A run's models served with a journal, and fitted again on both; real models of a small run."""

import json
import shutil
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import bestfor as bf
from bestfor import artifacts
from bestfor.errors import InputError
from bestfor.serving import LabelScale, Service
from bestfor.serving.base import open_model, scale_of
from bestfor.serving.journal import Journal
from bestfor.serving.names import JOURNAL
from support.taught import taught

BEFORE = Path(__file__).parent.parent / "fixtures" / "before" / "runs"
RUN = """
[data]
source = "table"
path = "{path}"
[split]
min_fit = 6
min_test = 3
[[reward]]
kind = "length"
[[reward]]
kind = "ridge"
components = 0
[[reward]]
kind = "hierarchical"
components = 0
"""
SHORT, LONG = (
    "Fewer buses now.",
    "We need many more parks, roads, schools and buses, and we need them very soon indeed!",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on people who like short texts or long ones."""
    folder = tmp_path_factory.mktemp("made")
    draw = np.random.default_rng(0)
    rows = ["user,text,rating"]
    for user in range(8):
        for number in range(30):
            words = int(draw.integers(3, 20))
            text = " ".join(f"{word}{number}" for word in ("buses", "parks", "roads") * 7)[: 8 * words]
            rows.append(f"u{user},{text},{(1 if user % 2 else -1) * (words - 11) / 8 + draw.normal() / 4:.3f}")
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.toml").write_text(RUN.format(path=folder / "ratings.csv"))
    bf.run(bf.load_config(folder / "run.toml"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


def labelled(run):
    """How many labelled rows of the fit part each user has."""
    queries = pq.read_table(run / "queries.parquet").to_pylist()
    users = {one["query_id"]: one["user_id"] for one in queries if one["split"] == "fit"}
    rated = pq.read_table(run / "utilities" / "rating.parquet")["query_id"].to_pylist()
    return Counter(users[query] for query in rated if query in users)


@pytest.fixture
def service(run, tmp_path):
    with Service(run, tmp_path / "feedback.db") as opened:
        yield opened


def test_a_run_serves_its_best_model_that_learns(run, service):
    assert service.model.kind in ("ridge", "hierarchical")
    assert service._served.run == run.resolve()
    assert -2 < service.scale.worst < -0.5 < 0.5 < service.scale.best < 2
    assert service.scale.metric == "rougeL"
    likes_long, likes_short = (service.answer(user, "", [SHORT, LONG]) for user in ("u1", "u0"))
    assert (likes_long.text, likes_short.text) == (LONG, SHORT)
    assert likes_long.served == "own"
    assert service.journal.answer("", likes_long.id).model == service._served.digest != ""


def test_a_newcomer_is_learned_from_what_they_say(service):
    before = service.answer("new", "", [SHORT, LONG])
    assert before.served == "everybody"
    for number in range(6):
        service.learn(user="new", text=f"{SHORT} {number}", rating=1.0)
        service.learn(user="new", text=f"{LONG} {number}", rating=0.0)
    after = service.answer("new", "", [SHORT, LONG])
    assert (after.text, after.served) == (SHORT, "own")
    assert after.scores.mean[0] - after.scores.mean[1] > before.scores.mean[0] - before.scores.mean[1]


def test_a_refit_learns_from_run_and_journal_and_is_served_at_once(run, service, tmp_path):
    for number in range(6):
        service.learn(user="new", text=f"{SHORT} {number}", rating=1.0)
        service.learn(user="new", text=f"{LONG} {number}", rating=0.0)
        service.learn(user="u0", text=f"{LONG} {number}", prefer=[f"{SHORT} {number}", f"{LONG} {number}"])
    service.learn(user="new", text=SHORT, kept=True)
    before, digest = service.answer("new", "", [SHORT, LONG]), service._served.digest
    done = service.refit(tmp_path / "next")
    assert (done.folder, done.learned, done.people, done.left_out) == (tmp_path / "next", 12, 1, 0)
    assert done.base == sum(labelled(run).values())
    assert done.notes == ("6 preferences are learned when a person is made, not by the fit",)
    assert service._served.digest not in ("", digest)
    users = artifacts.read(tmp_path / "next").users
    assert f"new{JOURNAL}" in users
    assert "new" not in users
    after = service.answer("new", "", [SHORT, LONG])
    assert after.text == before.text == SHORT
    assert service.journal.answer("", after.id).model == service._served.digest
    # The journal counts once: taking the labels back leaves a newcomer.
    for label, _ in service.journal.labels_of("", "new"):
        service.withdraw(label.key)
    assert service.answer("new", "", [SHORT, LONG]).served == "everybody"


def test_a_model_that_was_fitted_again_knows_its_run(service, run, tmp_path):
    scale = service.scale
    service.refit(tmp_path / "next")
    assert json.loads((tmp_path / "next" / "refit.json").read_text())["run"] == str(run.resolve())
    with Service(tmp_path / "next", tmp_path / "feedback.db") as again:
        assert again.scale == scale
        again.refit(tmp_path / "next")
        assert again.answer("u1", "", [SHORT, LONG]).text == LONG


def test_nothing_said_and_nobody_gone_is_the_same_fit(service, tmp_path):
    kept = service.model
    done = service.refit(tmp_path / "next")
    assert (done.learned, done.left_out) == (0, 0)
    texts = [SHORT, LONG]
    np.testing.assert_array_equal(kept.score("u1", "", texts).mean, service.model.score("u1", "", texts).mean)


def test_a_refit_does_not_read_who_was_forgotten(service, run, tmp_path):
    service.learn(user="u1", text=SHORT, rating=1.0)
    receipt = service.forget("u1")
    assert receipt.labels == 1
    held = {Path(path).relative_to(tmp_path) for path in receipt.still_held}
    assert {Path("run"), Path("run/models/ridge"), Path("run/models/hierarchical")} <= held
    assert service.answer("u1", "", [SHORT, LONG]).served == "everybody"
    done = service.refit(tmp_path / "next")
    counts = labelled(run)
    assert (done.left_out, done.base) == (1, sum(counts.values()) - counts["u1"])
    assert "u1" not in artifacts.read(tmp_path / "next").users
    assert "u0" in artifacts.read(tmp_path / "next").users
    service.learn(user="u1", text=SHORT, rating=1.0)
    service.refit(tmp_path / "next")
    users = artifacts.read(tmp_path / "next").users
    assert len(users) == 8
    assert not [user for user in users if user.startswith("u1")]


def test_who_is_forgotten_while_a_model_is_fitted_is_not_in_it(service, tmp_path, monkeypatch):
    """Another process forgets them after the rows were read."""
    service.learn(user="u1", text=SHORT, rating=1.0)
    fit, rounds = type(service.model).fit, []

    def fit_slowly(model, *given, **options):
        if not rounds:
            with Journal(tmp_path / "feedback.db") as other:
                other.forget("", "u1")
        rounds.append(model)
        return fit(model, *given, **options)

    monkeypatch.setattr(type(service.model), "fit", fit_slowly)
    done = service.refit(tmp_path / "next")
    assert (len(rounds), done.left_out) == (2, 1)
    assert not [user for user in artifacts.read(tmp_path / "next").users if user.startswith("u1")]


def test_other_tenants_are_not_read(run, service, tmp_path):
    with Service(run, service.journal, tenant="other") as other:
        other.learn(user="u0", text=SHORT, rating=0.0)
        assert service.refit(tmp_path / "next").learned == 0
        assert other.refit(tmp_path / "other").learned == 1
    assert f"other\x1fu0{JOURNAL}" in artifacts.read(tmp_path / "other").users


def test_a_kind_that_learns_at_fit_learns_under_the_users_own_name(run, tmp_path):
    with Service(run / "models" / "length", tmp_path / "feedback.db") as service:
        service.learn(user="new", text=SHORT, rating=1.0)
        assert service.refit(tmp_path / "next").learned == 1
        assert service.answer("new", "", [SHORT, LONG]).index in (0, 1)


@pytest.mark.slow
def test_models_are_swapped_under_readers(service, tmp_path):
    stop, failures, digests = threading.Event(), [], set()

    def read(user):
        while not stop.is_set():
            try:
                answer = service.answer(user, "", [SHORT, LONG])
                digests.add(service.journal.answer("", answer.id).model)
                if answer.text != (LONG if user == "u1" else SHORT):
                    failures.append(answer)
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=read, args=(user,)) for user in ("u0", "u1", "u2")]
    for thread in threads:
        thread.start()
    for _ in range(4):
        service.refit(tmp_path / "next")
        service.learn(user="new", text=SHORT, rating=1.0, key=f"{len(digests)}")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(digests) >= 2


def test_a_model_in_memory_cannot_be_fitted_again(tmp_path):
    with (
        Service(taught(), tmp_path / "feedback.db", scale=LabelScale()) as service,
        pytest.raises(InputError, match="refit: found a model whose run nobody knows"),
    ):
        service.refit(tmp_path / "next")


def test_a_place_without_a_model_is_one_line(tmp_path, run):
    with pytest.raises(InputError, match="found no model; expected a model's folder, or a run that has fitted one"):
        open_model(tmp_path / "nowhere")
    folds = tmp_path / "folds"
    shutil.copytree(run, folds / "fold-0")
    with pytest.raises(InputError, match=r"found a run of several folds; expected one of them, as .*fold-0"):
        open_model(folds)


def test_the_scale_of_a_run_on_histories_is_its_metric_where_that_compares_texts(tmp_path):
    scale = scale_of(BEFORE / "histories")
    assert (scale.metric, scale.metric_unit, scale.thumbs) == ("rougeL", None, None)
    assert -1 <= scale.worst < scale.best <= 1
    run = Path(shutil.copytree(BEFORE / "histories", tmp_path / "run"))
    (run / "utilities" / "taste.parquet").rename(run / "utilities" / "rouge1.parquet")
    text = (run / "run.toml").read_text()
    assert '"taste"' in text
    (run / "run.toml").write_text(text.replace('"taste"', '"rouge1"'))
    assert (scale_of(run).metric, scale_of(run).metric_unit) == ("rouge1", 1.0)


def test_votes_are_what_thumbs_say(tmp_path):
    rows = ["user,text,rating"]
    rows += [
        f"u{user},text {number} {'long ' * (number % 5)},{(user + number) % 2}"
        for user in range(5)
        for number in range(30)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(rows) + "\n")
    text = RUN.format(path=tmp_path / "ratings.csv").replace('[[reward]]\nkind = "hierarchical"\ncomponents = 0\n', "")
    (tmp_path / "run.toml").write_text(text)
    bf.run(bf.load_config(tmp_path / "run.toml"), tmp_path / "run")
    scale = scale_of(tmp_path / "run")
    assert (scale.worst, scale.best, scale.thumbs) == (0.0, 1.0, (0.0, 1.0))
