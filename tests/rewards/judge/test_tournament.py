import asyncio
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from bestfor import rewards
from bestfor.rewards.judge import Judge, questions
from bestfor.rewards.judge.prompts import GENERAL
from bestfor.rewards.judge.tournament import (
    PULL,
    bradley_terry,
    most_questions,
    pairings,
    play,
    standing,
    tied,
    usual_rounds,
)
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples
from support import later
from support.servers import error, judging, marked

linear_model = later("sklearn.linear_model")


QUICK = {"concurrency": 8, "timeout": 5, "retries": 0}


def logistic(x):
    return 1 / (1 + np.exp(-x))


def loss(theta, pairs, won):
    away = theta[pairs[:, 0]] - theta[pairs[:, 1]]
    told = won * np.log(logistic(away)) + (1 - won) * np.log(logistic(-away))
    return -told.sum() + PULL / 2 * theta @ theta


def games(draw, players, count):
    pairs = np.array([draw.choice(players, 2, replace=False) for _ in range(count)])
    return pairs, draw.random(count)


@pytest.mark.parametrize(("players", "count"), [(2, 1), (3, 2), (6, 15), (20, 60)])
def test_strengths_are_where_the_posterior_is_largest(players, count):
    pairs, won = games(np.random.default_rng(players), players, count)
    found = bradley_terry(pairs, won, players)
    best = minimize(loss, np.zeros(players), args=(pairs, won), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found, best.x, atol=1e-5)
    step = 1e-5 * np.eye(players)
    slope = [(loss(found + one, pairs, won) - loss(found - one, pairs, won)) / 2e-5 for one in step]
    np.testing.assert_allclose(slope, 0, atol=1e-8)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_strengths_are_those_of_a_ridge_logistic_regression():
    pairs, _ = games(np.random.default_rng(3), 8, 40)
    won = (np.arange(40) % 3 > 0).astype(float)
    design = np.zeros((40, 8))
    design[np.arange(40), pairs[:, 0]] = 1
    design[np.arange(40), pairs[:, 1]] = -1
    model = linear_model.LogisticRegression(C=1 / PULL, fit_intercept=False, tol=1e-10, max_iter=1000).fit(design, won)
    np.testing.assert_allclose(bradley_terry(pairs, won, 8), model.coef_[0], atol=1e-5)


def test_who_wins_all_has_a_finite_strength():
    pairs = np.array(list(itertools.combinations(range(40), 2)) * 20)
    found = bradley_terry(pairs, np.ones(len(pairs)), 40)
    assert np.isfinite(found).all()
    assert np.all(np.diff(found) < 0)


@given(st.integers(2, 17), st.integers(1, 20), st.integers(0, 5))
def test_nobody_meets_twice_and_all_play_about_as_often(players, rounds, seed):
    draw = np.random.default_rng(seed)
    order, met, won = draw.permutation(players), [], []
    for number in range(rounds):
        drawn = pairings(standing(players, met, won), met, order)
        seated = [one for pair in drawn for one in pair]
        assert len(set(seated)) == len(seated)
        assert all(frozenset(pair) not in {frozenset(one) for one in met} for pair in drawn)
        if number == 0:
            assert len(drawn) == players // 2
        met += drawn
        won += draw.random(len(drawn)).tolist()
    played = np.bincount(np.array(met).reshape(-1), minlength=players)
    if rounds <= math.log2(players):
        assert played.max() - played.min() <= 1


@given(st.integers(1, 12), st.integers(0, 3))
def test_a_whole_tournament_finds_the_order(players, seed):
    worth = np.random.default_rng(seed).permutation(players)

    async def compare(pairs):
        return [float(worth[one] > worth[other]) for one, other in pairs]

    found = asyncio.run(play(players, max(players, 2), compare, np.arange(players)))
    np.testing.assert_array_equal(np.argsort(found), np.argsort(worth))


def test_the_usual_tournament_finds_the_best_of_thirty():
    asked = []
    worth = np.random.default_rng(1).permutation(30)

    async def compare(pairs):
        asked.extend(pairs)
        return [float(worth[one] > worth[other]) for one, other in pairs]

    found = asyncio.run(play(30, usual_rounds(30), compare, np.arange(30)))
    assert len(asked) == usual_rounds(30) * 15 == 90
    assert worth[np.argmax(found)] == 29
    assert np.corrcoef(found, worth)[0, 1] > 0.85


@pytest.mark.parametrize(
    ("players", "rounds", "most"), [(1, None, 0), (2, None, 2), (3, 2, 6), (30, None, 180), (4, 9, 12)]
)
def test_how_many_questions_there_are_at_most(players, rounds, most):
    assert most_questions(players, rounds) == most


def test_questions_are_asked_in_blocks(monkeypatch):
    monkeypatch.setattr(questions, "_TOGETHER", 10)
    contests = [questions.JudgedQuery(str(at), "", ("a", "b"), (GENERAL, GENERAL)) for at in range(7)]
    found = questions.blocks(contests)
    assert [len(block) for block in found] == [3, 3, 1]
    assert [contest for block in found for contest in block] == contests
    assert questions.blocks([]) == []


def test_who_is_tied_to_nobody_is_missing():
    pairs = np.array([[0, 1], [1, 2], [4, 5]])
    assert tied(pairs, 7).tolist() == [True, True, True, False, False, False, False]
    assert tied(pairs[:0], 3).tolist() == [False, False, False]
    assert tied(pairs[:0], 1).tolist() == [True]

    async def compare(drawn):
        return [math.nan if 2 in pair else 1.0 for pair in drawn]

    found = asyncio.run(play(4, 3, compare, np.arange(4)))
    assert np.isnan(found).tolist() == [False, False, True, False]


@pytest.mark.slow
class TestTournament(RewardModelTests):
    model = Judge

    @pytest.fixture(autouse=True)
    def _served(self, scripted):
        self.endpoint = {"base_url": scripted(judging()).url, **QUICK}

    def examples(self, users=6, queries=1, candidates=2, **how):
        return taste_examples(users, queries, min(candidates, 4), **how)

    def build(self, **options):
        return super().build(
            **{"model": "m", "mode": "tournament", "neighbours": 1, "endpoint": self.endpoint, **options}
        )


@pytest.fixture
def tournament(scripted):
    made = []

    def make(better, **options):
        server = scripted(judging(better=better))
        endpoint = {"base_url": server.url, **QUICK}
        given = {"model": "m", "mode": "tournament", "endpoint": endpoint, **options}
        made.append(rewards.build("judge", encoder=LetterEncoder(), **given))
        return made[-1], server

    yield make
    for one in made:
        one.close()


def pair(found):
    return found["first"][0], found["second"][0]


def test_a_taste_for_the_first_place_cancels(tournament):
    """Whoever stands first has a head start of 0.3: texts of one length still tie."""

    def better(found):
        one, other = pair(found)
        first = 0.8 if len(one) == len(other) else 0.95 if len(one) > len(other) else 0.45
        return marked({"1": first, "2": 1 - first})

    examples = taste_examples(users=1, queries=1, candidates=4)
    names = dict(zip(dict.fromkeys(examples.text.tolist()), ("aaaa", "bbbb", "ccccc", "d"), strict=True))
    texts = tuple(names.get(code, text) for code, text in enumerate(examples.texts))
    examples = replace(examples, texts=texts)
    model, _ = tournament(better, rounds=3)
    found = model.fit(examples, rng=0).predict(examples).mean
    mean = dict(zip([names[code] for code in examples.text], found, strict=True))
    assert mean["aaaa"] == mean["bbbb"]
    assert mean["ccccc"] > mean["aaaa"] > mean["d"]


def test_questions_of_a_tournament(tournament):
    examples = taste_examples(users=2, queries=1, candidates=6)
    model, server = tournament(lambda found: 1, rounds=2, rubrics=2)
    model.fit(examples, rng=0)
    before = len(server.requests)
    mean = model.predict(examples).mean
    assert len(server.requests) - before == 2 * 6 * 2 == 2 * most_questions(6, 2), "users, pairs of a ring, orders"
    assert model.usage.requests == len(server.requests)
    np.testing.assert_allclose(mean, 0, atol=1e-9)


def test_pairs_without_both_answers_do_not_count(tournament):
    examples = taste_examples(users=1, queries=1, candidates=4)
    silent = examples.texts[examples.text[2]]
    model, _ = tournament(lambda found: error(400, "no") if found["first"][0] == silent.strip() else 1, rounds=3)
    examples = replace(examples, texts=tuple(text.strip() for text in examples.texts))
    estimate = model.fit(examples, rng=0).predict(examples)
    mean = estimate.mean
    assert np.isnan(mean).tolist() == [False, False, True, False]
    assert "1 of 4 candidates have no reward from m" in estimate.notes


def test_equal_texts_are_one_player_and_one_text_plays_alone(tournament):
    examples = taste_examples(users=1, queries=1, candidates=4)
    same = replace(examples, text=np.repeat(examples.text[:1], 4))
    model, server = tournament(lambda found: 1)
    model.fit(examples, rng=0)
    before = len(server.requests)
    assert model.predict(same).mean.tolist() == [0.0] * 4
    assert len(server.requests) == before
