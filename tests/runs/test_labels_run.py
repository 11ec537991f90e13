"""A run on a table of labels of every kind, and what a service makes of its folder."""

import json

import numpy as np
import pytest

import bestfor as bf
from bestfor.data.said import read_said

RUN = """
[data]
source = "labels"
path = "{path}"
rating = [1, 5]
[split]
min_fit = 6
min_test = 3
[[reward]]
kind = "ridge"
components = 0
[[reward]]
kind = "hierarchical"
components = 0
[[reward]]
kind = "pooled"
components = 0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """People who like short texts or long ones, told in every way."""
    folder = tmp_path_factory.mktemp("labels")
    draw = np.random.default_rng(0)
    texts = [" ".join(["buses"] * int(draw.integers(1, 20))) + f" {number}" for number in range(60)]
    rows = ["user,kind,text,over,value,comment"]
    for user in range(6):
        likes = sorted(texts, key=lambda text: len(text) * (1 if user % 2 else -1))
        place = {text: at for at, text in enumerate(likes)}
        for text in texts:
            other = texts[int(draw.integers(60))]
            better, worse = (text, other) if place[text] > place[other] else (other, text)
            liked = place[text] >= 30
            rows.append(
                [
                    f"u{user},rating,{text},,{1 + place[text] // 13},",
                    f"u{user},thumb,{text},,{int(liked)},",
                    f"u{user},preference,{better},{worse},,",
                    f"u{user},{'kept' if liked else 'dismissed'},{text},,,",
                    f"u{user},comment,{text},,,fine",
                ][int(draw.integers(5)) if text != other else 0]
            )
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.toml").write_text(RUN.format(path=folder / "labels.csv"))
    bf.run(bf.load_config(folder / "run.toml"), folder / "run")
    return folder / "run"


def test_a_run_learns_tastes_from_labels_of_every_kind(run):
    found = json.loads((run / "diagnosis.json").read_text())
    captured = {name: model["captured"][-1] for name, model in found["models"].items()}
    assert captured["hierarchical"] > 0.5 > captured["pooled"]
    assert captured["ridge"] > 0.5
    assert "comments are kept (labels.parquet), not learned: u0: 'fine'" in json.dumps(found)


def test_the_folder_keeps_what_people_said(run):
    said = read_said(run)
    model = bf.load_model(run / "models" / "hierarchical")
    assert said is not None
    assert {user: len(labels) for user, labels in said.items()} == {u: len(one) for u, one in model._said.items()}
    assert any(labels.preferred for labels in said.values())


def test_a_service_on_the_run_refits_on_what_was_said(run, tmp_path):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    short, long = "buses 1", "buses " * 18 + "2"
    with bf.Service(run, tmp_path / "feedback.db") as service:
        before = [service.answer(user, "", [short, long]).text for user in ("u0", "u1")]
        service.learn(user="u1", text=long, rating=5.0) if service.scale.rating == (1, 5) else None
        service.refit(tmp_path / "next")
        after = [service.answer(user, "", [short, long]).text for user in ("u0", "u1")]
    assert before == after == [short, long]
    assert set(bf.load_model(tmp_path / "next")._said) == {f"u{number}" for number in range(6)}
