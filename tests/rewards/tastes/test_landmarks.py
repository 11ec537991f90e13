"""Priors of low rank, and landmarks: brute force, the kernel with all items, and a model that few texts carry."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.features.nearness import Nearness
from bestfor.rewards.tastes import Tastes
from bestfor.rewards.tastes.carriers import ExactCarrier, LandmarkCarrier
from bestfor.rewards.tastes.factors import ItemTastes
from bestfor.rewards.tastes.landmarks import LandmarkPrior, Landmarks, choose_landmarks
from bestfor.rewards.tastes.priors import DensePrior, LowRankPrior
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, assert_same, taste_examples

WORDS = ["tax", "bus", "park", "school", "water", "road", "vote", "rent", "farm", "lake"]
NOISES = (0.5, 2.0)


def items_of(count, seed=0):
    draw = rng.derive(seed, "items")
    texts = [" ".join(draw.choice(WORDS, size=4)) + f" {code}" for code in range(count)]
    vectors = draw.normal(size=(count, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearness = Nearness.fit(texts, 0.5, 0.3)
    return nearness, nearness.represent(texts, vectors)


def test_low_rank_is_the_matrix_it_stands_for():
    draw = rng.derive(0, "prior")
    features, remains = draw.normal(size=(14, 4)), 0.2 + draw.random(14)
    low, dense = LowRankPrior(features, remains), DensePrior(features @ features.T + np.diag(remains))
    precision, pull, values = 0.1 + 3 * draw.random(14), draw.normal(size=14), draw.normal(size=14)
    for one, other in zip(low.posterior(0.7, precision, pull), dense.posterior(0.7, precision, pull), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert low.energy(values) == pytest.approx(dense.energy(values), rel=1e-10)
    covariance = np.linalg.inv(np.linalg.inv(0.7 * dense.matrix) + np.diag(precision))
    mean, variance, trace = low.posterior(0.7, precision, pull)
    np.testing.assert_allclose(mean, covariance @ pull, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, np.diag(covariance), rtol=1e-5)
    assert trace == pytest.approx(np.trace(np.linalg.solve(dense.matrix, covariance)), rel=1e-5)
    weights = np.linalg.solve(np.eye(4) + features.T @ (features / remains[:, None]), features.T / remains)
    np.testing.assert_allclose(low.project(values[:, None])[:, 0], weights @ values, atol=1e-10)


def test_multiplying_by_the_inverse_factor_is_solving():
    draw = rng.derive(2, "prior")
    features, remains = draw.normal(size=(40, 7)), 0.2 + draw.random(40)
    given = (0.4, 0.1 + 3 * draw.random(40), draw.normal(size=40))
    found = LandmarkPrior(features, remains).posterior(*given)
    dense = DensePrior(features @ features.T + np.diag(remains)).posterior(*given)
    for one, solved, exact in zip(found, LowRankPrior(features, remains).posterior(*given), dense, strict=True):
        np.testing.assert_allclose(one, solved, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one, exact, rtol=1e-5, atol=1e-6)


def test_all_items_as_landmarks_are_the_kernel():
    nearness, items = items_of(30)
    marks = Landmarks.of(nearness, items, choose_landmarks(nearness, items, 30))
    np.testing.assert_allclose(marks.features @ marks.features.T, nearness.between(items, items), atol=1e-6)
    new = items_of(40)[1].take(np.arange(30, 40))
    draw = rng.derive(1, "tastes")
    shared = ItemTastes(draw.normal(size=(30, 3)), draw.random((30, 3)), np.array([1.0, 0.4, 0.2]), 0.5, 0.1, 30)
    exact = ExactCarrier.of(nearness, items, NOISES).predict(shared, new)
    for one, other in zip(LandmarkCarrier.of(marks, NOISES).predict(shared, new), exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_landmarks_are_where_the_kernel_is_told_worst():
    nearness, items = items_of(60)
    codes = choose_landmarks(nearness, items, 25)
    assert len(set(codes.tolist())) == 25
    near = nearness.between(items, items)

    def left(chosen):
        told = near[:, chosen] @ np.linalg.solve(near[np.ix_(chosen, chosen)], near[chosen])
        return np.diag(near - told)

    for place in (1, 10, 24):
        assert left(codes[:place])[codes[place]] == pytest.approx(left(codes[:place]).max(), abs=1e-8)
    marks = Landmarks.of(nearness, items, codes)
    np.testing.assert_allclose(1 - np.sum(marks.features**2, axis=1), left(codes), atol=1e-6)
    copies = items.take(np.repeat(np.arange(5), 4))
    assert len(choose_landmarks(nearness, copies, 20)) == 5


def test_a_model_carried_by_few_texts_is_near_the_exact_one(tmp_path):
    examples = taste_examples(users=12, queries=1, candidates=60, shared=True)
    fit, fresh = examples.take(examples.candidate < 45), examples.take(examples.candidate >= 45)
    exact = Tastes(encoder=LetterEncoder()).fit(fit, rng=0)
    found = {most: Tastes(encoder=LetterEncoder(), landmarks=most).fit(fit, rng=0) for most in (44, 20)}
    expected = exact.predict(fresh)
    for most, least in ((44, 0.999), (20, 0.9)):
        estimate = found[most].predict(fresh)
        assert np.corrcoef(estimate.mean, expected.mean)[0, 1] > least
        np.testing.assert_allclose(estimate.std, expected.std, rtol=0.2)
    found[20].save(tmp_path)
    loaded = Tastes.load(tmp_path, encoder=LetterEncoder())
    assert_same(loaded.predict(fresh), found[20].predict(fresh))


def test_pairs_that_are_too_many_are_taken_user_by_user(monkeypatch):
    examples = taste_examples(users=40, queries=1, candidates=30, shared=True)
    fit, fresh = examples.take(examples.candidate < 22), examples.take(examples.candidate >= 22)
    whole = Tastes(encoder=LetterEncoder()).fit(fit, rng=0)
    monkeypatch.setattr("bestfor.rewards.tastes.model.MOST_PAIRS", 10)
    parts = Tastes(encoder=LetterEncoder()).fit(fit, rng=0)
    one, other = whole.predict(fresh), parts.predict(fresh)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-7)
    np.testing.assert_allclose(one.std_mean, other.std_mean, rtol=1e-7)


@pytest.mark.slow
class TestTastesByLandmarks(RewardModelTests):
    model = Tastes
    options = {"landmarks": 6}

    def test_one_user_loaded_alone_sees_no_more_texts(self, tmp_path):
        examples = self.examples(seed=13)
        model = self.build().fit(examples, rng=0)
        model.save(tmp_path / "model")
        mine = replace(examples.take(examples.user == 2))
        assert_same(self.reload(tmp_path / "model", user="u2").predict(mine), model.predict(mine))
