"""Structures are judged by texts that nobody has rated, where people share texts."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.rewards import Hierarchical, Pooled
from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.noise import noise_sizes
from bestfor.rewards.hierarchical.texts import TextEffects
from bestfor.rewards.hierarchical.unseen_texts import noise_head_tells
from bestfor.rewards.hierarchical.variances import Prior
from bestfor.rewards.rows import FeatureRows
from bestfor.testing.rewards import LetterEncoder, assert_same

LETTERS = "abcdefghijklmnop"


def conversation(own, texts=40, users=30, effect=0.0, seed=7):
    """Everybody rates the same texts; tastes of ``own`` spread, and what everybody makes of a text."""
    draw = rng.derive(seed, "conversation")
    words = ["".join(draw.choice(list(LETTERS), size=9)) for _ in range(texts)]
    vectors = LetterEncoder().encode(words).astype(np.float64) * 4
    shared, tastes = draw.normal(size=vectors.shape[1]), own * draw.normal(size=(users, vectors.shape[1]))
    rated = np.array([draw.permutation(texts)[: texts // 2] for _ in range(users)])
    user, text = np.repeat(np.arange(users), rated.shape[1]), rated.ravel()
    everybody = 0.3 * vectors @ shared + effect * draw.normal(size=texts)
    utility = everybody[text] + np.sum(vectors[text] * tastes[user], axis=1) + 0.3 * draw.normal(size=len(user))
    names = tuple(f"u{code:02d}" for code in range(users))
    return Candidates(
        users=names, queries=names, inputs=("",) * users, texts=tuple(words), user=user, query=user.copy(), text=text,
        candidate=np.arange(len(user)), utility=utility, logprob=np.full(len(user), np.nan),
    )  # fmt: skip


def fitted(table, **options):
    return Hierarchical(encoder=LetterEncoder(), components=8, **options).fit(table, rng=0)


@pytest.fixture(scope="module")
def alike():
    return conversation(0.0, effect=0.8)


@pytest.mark.slow
def test_people_who_agree_have_no_tastes_and_the_reward_is_the_pooled_one(alike):
    model = fitted(alike, variance_head=False)
    assert model.structure.covariance == "none"
    assert any("unseen text" in note for note in model.notes)
    assert model.settled()["variance_head"] is False
    asked = replace(alike, texts=tuple(f"{text}x" for text in alike.texts))
    pooled = Pooled(encoder=LetterEncoder(), components=8).fit(alike, rng=0).predict(asked)
    own = model.predict(asked)
    level = np.bincount(asked.user, own.mean - pooled.mean) / np.bincount(asked.user)
    assert np.corrcoef(own.mean - level[asked.user], pooled.mean)[0, 1] > 0.98
    assert np.median(own.std / pooled.std) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_people_who_differ_have_tastes():
    model = fitted(conversation(0.8), variance_head=False)
    assert model.structure.covariance != "none"
    assert not any("noise" in note for note in model.notes)


@pytest.mark.slow
def test_the_text_variance_is_stored_and_serves_persons(alike, tmp_path):
    model = fitted(alike, variance_head=False)
    model.save(tmp_path / "model")
    again = Hierarchical.load(tmp_path / "model", encoder=LetterEncoder())
    assert_same(again.predict(alike), model.predict(alike))
    columns = np.zeros((2, len(model.belief(0).mean)))
    assert np.array_equal(again.noise(columns, 0), model.noise(columns, 0))
    assert np.all(model.noise(columns, 0) > 0.1)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, True), (-1.0, False)])
def test_noise_depends_on_features_where_that_predicts_unseen_texts(sign, expected):
    """A head of the true weights against one turned around."""
    draw, truth = rng.derive(11, "noise"), np.array([1.0, -0.7, 0.0])
    text, user = np.tile(np.arange(30), 12), np.repeat(np.arange(12), 30)
    z = np.column_stack([draw.normal(size=(30, 2)), np.ones(30)])[text]
    rows = FeatureRows(z, np.exp(z @ truth / 2) * draw.normal(size=len(text)), user, user.copy())

    def learn(known, with_head):
        head = sign * truth if with_head else np.zeros(3)
        data = compress_rows(known, noise_sizes(known.z, head), levels=False)
        return Prior(np.full(3, 1e-8), np.full(3, 0.1), 1.0, 0.0), head, data

    assert noise_head_tells(TextEffects(rows, text), learn, 0.0, rng=0) is expected
    few = TextEffects(rows, text % 5)
    assert not noise_head_tells(few, lambda *_: pytest.fail("learned from five texts"), 0.0, rng=0)
