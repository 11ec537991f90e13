"""A service and a gateway whose model has users in shards: it reads who asks, meets newcomers, outlives a new fit."""

import subprocess
import sys

import httpx2
import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")

import bestfor as bf
from bestfor import artifacts
from bestfor.data.blocks import write_blocks
from bestfor.data.labels import Labels
from bestfor.errors import InputError
from bestfor.rewards import kind_class
from bestfor.rewards.blocks import fit_blocks
from bestfor.serving.journal import database
from bestfor.serving.labels import LabelScale
from bestfor.shards import Shards, file_of, shard_of
from bestfor.testing.rewards import LetterEncoder, taste_examples

TEXTS = ["a cab", "dada", "fee", "ghi abc"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return write_blocks(taste_examples(16, 2, 5).to_arrow(), tmp_path_factory.mktemp("labels") / "blocks", 4)


@pytest.fixture(scope="module", params=["ridge", "tastes"])
def model(request, blocks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / request.param
    fit(request.param, blocks, folder)
    return request.param, folder


def fit(kind, blocks, folder, **options):
    given = {"ridge": {"components": 4}, "tastes": {"tastes": 2, "rounds": 2, "landmarks": 200, "abstain": False}}[kind]
    fit_blocks(kind_class(kind)(None, encoder=LetterEncoder(), **{**given, **options}), blocks, folder, rng=0)


def service(folder, tmp_path):
    return bf.Service(folder, tmp_path / "journal.db", encoder=LetterEncoder(), scale=LabelScale(-2.0, 2.0))


def test_only_those_who_ask_are_read_and_newcomers_learn(model, tmp_path, monkeypatch):
    asked, rows = [], Shards.rows
    monkeypatch.setattr(Shards, "rows", lambda self, users: asked.append(tuple(users)) or rows(self, users))
    alone = bf.load_model(model[1], encoder=LetterEncoder(), user="u3").person("u3", Labels())
    expected = alone.score("write", TEXTS)
    asked.clear()
    with service(model[1], tmp_path) as one:
        assert asked in ([], [()])
        for _ in range(2):
            found = one.answer("u3", "write", TEXTS)
        assert found.served == alone.served
        np.testing.assert_allclose(found.scores.mean, expected.mean, rtol=1e-9)
        new = one.answer("somebody new", "write", TEXTS)
        assert new.served == "everybody"
        assert [users for users in asked if users] == [("u3",), ("somebody new",)]
        for text, rating in zip(TEXTS, (1.0, 0.0, 0.0, 0.8), strict=True):
            one.learn(user="somebody new", prompt="write", text=text, rating=rating)
        learned = one.answer("somebody new", "write", TEXTS)
        assert learned.served == "own"
        assert learned.scores.mean[0] > new.scores.mean[0]


def test_a_model_that_was_replaced_is_opened_again(blocks, tmp_path):
    fit("ridge", blocks, tmp_path / "model")
    with service(tmp_path / "model", tmp_path) as one:
        before = one.answer("u3", "write", TEXTS)
        fit("ridge", blocks, tmp_path / "model", components=3)
        kept = one.answer("u3", "write", TEXTS)
        np.testing.assert_array_equal(kept.scores.mean, before.scores.mean)
        found = one.answer("u5", "write", TEXTS)
        expected = bf.load_model(tmp_path / "model", encoder=LetterEncoder()).score("u5", "write", TEXTS)
        np.testing.assert_array_equal(found.scores.mean, expected.mean)


def test_a_lost_shard_is_one_line_for_its_users_alone(blocks, tmp_path):
    fit("ridge", blocks, tmp_path / "model")
    entries = artifacts.read(tmp_path / "model", users=()).shards.entries
    (tmp_path / "model" / file_of(entries[shard_of("u3", 4)].digest)).unlink()
    other = next(f"u{number}" for number in range(16) if shard_of(f"u{number}", 4) != shard_of("u3", 4))
    with service(tmp_path / "model", tmp_path) as one:
        with pytest.raises(InputError, match="no file; expected shard") as caught:
            one.answer("u3", "write", TEXTS)
        assert "\n" not in str(caught.value)
        assert one.answer(other, "write", TEXTS).served == "own"


@pytest.mark.slow
def test_a_gateway_serves_shards_and_goes_on_when_they_are_replaced(tmp_path):
    pytest.importorskip("fastapi")
    from support.gateways import Process

    def bestfor(*words):
        subprocess.run([sys.executable, "-m", "bestfor", *map(str, words)], check=True, capture_output=True)

    pq.write_table(taste_examples(16, 2, 5).to_arrow(), tmp_path / "labels.parquet")
    bestfor("blocks", "deal", tmp_path / "labels.parquet", "--out", tmp_path / "blocks", "--blocks", 4)
    kind = ("--kind", "ridge", "--set", "components=0", "--out", tmp_path / "model")
    bestfor("blocks", "fit", tmp_path / "blocks", *kind)
    upstream = ("--upstream", "http://127.0.0.1:9", "--model", "m", "--journal", tmp_path / "journal.db")
    gateway = Process(tmp_path / "model", *upstream)
    try:
        with httpx2.Client(base_url=gateway.url, timeout=120.0, trust_env=False) as http:

            def rewards(user):
                body = {"query": "write", "documents": TEXTS, "user": user}
                found = http.post("/v1/rerank", json=body, headers={"X-Bestfor-User": user})
                assert found.status_code == 200, found.text
                results = sorted(found.json()["results"], key=lambda one: one["index"])
                return [one["relevance_score"] for one in results]

            first = rewards("u3")
            assert rewards("somebody new") != first
            bestfor("blocks", "fit", tmp_path / "blocks", *kind, "--set", "abstain=false", "--seed", 1)
            assert len(rewards("u5")) == len(TEXTS)
    finally:
        assert gateway.stop() in (0, -15, 143)
