"""Hierarchical: conformance of every shape, persons, the kernel, the scorer, and what is left out."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.errors import BestforError
from bestfor.rewards import Hierarchical
from bestfor.rewards.hierarchical.fit import has_query_levels
from bestfor.rewards.hierarchical.labels import CompactRows, round_single
from bestfor.rewards.rows import FeatureRows
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, assert_same, labels_of, taste_examples


class TestHierarchical(RewardModelTests):
    model = Hierarchical
    options: ClassVar = {"components": 8}


class TestIsotropicKernel(RewardModelTests):
    model = Hierarchical
    options: ClassVar = {
        "components": 4,
        "covariance": "isotropic",
        "kernel": "rational_quadratic",
        "kernel_components": 6,
        "landmarks": 40,
    }


class TestLowRank(RewardModelTests):
    model = Hierarchical
    options: ClassVar = {"components": 8, "covariance": "low_rank", "rank": 2, "variance_head": False}


def fitted(seed=20, users=8, **options):
    examples = taste_examples(users=users, seed=seed)
    return Hierarchical(encoder=LetterEncoder(), components=8, **options).fit(examples, rng=0), examples


def test_more_labels_of_a_stranger_lead_from_the_prior_to_the_user():
    everybody = taste_examples(users=40, queries=6, candidates=10, seed=21)
    model = Hierarchical(encoder=LetterEncoder(), components=16, style=False, answer=False)
    model.fit(everybody.take(everybody.user < 39), rng=0)
    mine = everybody.take(everybody.user == 39)
    test = mine.take(np.arange(40, 60))
    errors, spreads, texts = [], [], [test.texts[code] for code in test.text]
    for step in range(4):
        person = model.person("u39", labels_of(mine.take(np.arange(step * 10)), "u39"))
        estimate = person.score("", texts)
        centred = test.utility - estimate.mean
        errors.append(sum(float(np.var(centred[part])) for part in (slice(0, 10), slice(10, 20))))
        spreads.append(float(np.mean(estimate.std_mean)))
    assert np.all(np.diff(spreads) < 0)
    assert errors[3] < errors[0] / 2


def test_a_kernel_sees_what_no_line_can():
    """Utility is nearness to one of two texts: nothing linear in the embedding tells it."""
    draw = rng.derive(22, "kernel")
    base = taste_examples(users=20, queries=4, candidates=10, seed=22)
    vectors = LetterEncoder().encode(base.texts).astype(np.float64)
    squared = ((vectors - vectors.mean(axis=0)) ** 2) @ draw.normal(size=16)
    examples = replace(base, utility=squared[base.text] / squared.std() + 0.1 * draw.normal(size=len(base)))
    options = {"style": False, "answer": False, "components": 15, "variance_head": False}
    half = examples.query % 2 == 0
    shares = []
    for kernel in ("linear", "rational_quadratic"):
        model = Hierarchical(encoder=LetterEncoder(), kernel=kernel, kernel_length=0.4, **options)
        estimate = model.fit(examples.take(half), rng=0).predict(examples.take(~half))
        shares.append(np.corrcoef(estimate.mean, examples.utility[~half])[0, 1])
    assert shares[1] > shares[0] + 0.1


@pytest.mark.parametrize("kernel", ["linear", "rational_quadratic"])
def test_scorer_gives_what_predict_gives(kernel):
    model, examples = fitted(kernel=kernel, style=False, answer=False)
    encoder = LetterEncoder()
    for user in ("u3", "nobody"):
        mine = replace(examples.take(examples.user == 3), users=(*examples.users[:3], user, *examples.users[4:]))
        scorer = model.for_user(user)
        expected = model.predict(mine).mean
        np.testing.assert_allclose(scorer.score(model.features(mine)), expected, rtol=1e-8)
        embeddings = encoder.encode([mine.texts[code] for code in mine.text])
        np.testing.assert_allclose(scorer.score_embeddings(embeddings), expected, rtol=1e-5, atol=1e-6)


def test_scorer_asks_for_surface_features():
    model, examples = fitted()
    scorer, features = model.for_user("u1"), model.features(examples.take(examples.user == 1))
    embeddings = LetterEncoder().encode([examples.texts[code] for code in examples.text[examples.user == 1]])
    with pytest.raises(BestforError, match="surface features"):
        scorer.score_embeddings(embeddings)
    found = scorer.score_embeddings(embeddings, features[:, 8:])
    np.testing.assert_allclose(found, scorer.score(features), rtol=1e-5, atol=1e-6)
    with pytest.raises(BestforError, match="after fit or load"):
        Hierarchical().for_user("u1")


def test_left_out_errors_judge_users():
    model, _ = fitted(users=30)
    assert model.left_out is not None
    np.testing.assert_array_equal(model.left_out.labels, 24)
    assert np.mean(model.left_out.error) < np.nanmean(model.left_out.shared_error)
    assert np.mean(model.left_out.ratio) == pytest.approx(1, abs=0.3)


@pytest.mark.slow
def test_users_without_tastes_of_their_own_abstain_and_say_so():
    """Half of the users rate by what everybody likes, with much noise."""
    draw = rng.derive(24, "crowd")
    base = taste_examples(users=40, queries=1, candidates=30, seed=24)
    vectors = LetterEncoder().encode(base.texts).astype(np.float64) * 4
    general, own = draw.normal(size=16), draw.normal(size=(40, 16)) * 2
    odd = base.user % 2 == 1
    utility = np.sum(vectors[base.text] * (general + np.where(odd[:, None], own[base.user], 0)), axis=1)
    utility = utility + np.where(odd, 0.3, 6.0) * draw.normal(size=len(base))
    examples = replace(base, utility=utility)
    model = Hierarchical(encoder=LetterEncoder(), components=15, style=False, answer=False).fit(examples, rng=0)
    crowd = [int(user[1:]) % 2 == 0 for user in model.abstained]
    assert len(crowd) >= 3
    assert np.mean(crowd) > 0.9
    assert any(note.startswith(f"{len(crowd)} of 40 users were served without") for note in model.notes)
    kept = Hierarchical(encoder=LetterEncoder(), components=15, style=False, answer=False, abstain=False)
    assert kept.fit(examples, rng=0).abstained == ()


def test_very_many_users_are_learned_from_by_sample(monkeypatch):
    monkeypatch.setattr("bestfor.rewards.hierarchical.fit.WORK", 1.0)
    monkeypatch.setattr("bestfor.rewards.hierarchical.fit.FEWEST", 6)
    model, examples = fitted(users=12, seed=25)
    again, _ = fitted(users=12, seed=25)
    assert_same(model.predict(examples), again.predict(examples))
    whole = model.predict(examples)
    assert np.corrcoef(whole.mean, examples.utility)[0, 1] > 0.7


def test_queries_have_levels_where_somebody_has_two():
    rows = FeatureRows(np.ones((4, 1)), np.zeros(4), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    assert not has_query_levels(rows)
    assert has_query_levels(replace(rows, query=np.array([0, 1, 2, 2])))


@pytest.mark.slow
def test_one_of_very_many_users_is_served_as_from_the_whole_model(tmp_path):
    count = 200_000
    model, examples = fitted(users=2, style=False, answer=False)
    posteriors = model._fitted_values.posteriors
    draw, p = rng.derive(26, "many"), len(posteriors.shared)
    rows = draw.normal(size=(count, p)).astype(np.float32)
    data = CompactRows(rows, draw.normal(size=count), np.zeros(count), np.arange(count + 1), 0.0, count, 0.0)
    posteriors = replace(posteriors, data=round_single(data), weights=draw.normal(size=(count, p)))
    model._fitted_values = replace(model._fitted_values, posteriors=posteriors)
    model._users, model._codes = tuple(f"user {code:06d}" for code in range(count)), None
    model._abstained = np.arange(count) % 7 == 0
    model.save(tmp_path)
    for code in (0, 123_456, count - 1):
        mine = replace(examples, users=(f"user {code:06d}", "u1")).take(examples.user == 0)
        alone = Hierarchical.load(tmp_path, encoder=LetterEncoder(), user=f"user {code:06d}")
        assert_same(alone.predict(mine), model.predict(mine))
        assert alone._fitted_values.posteriors.weights.shape == (1, p)


def test_variances_are_tempered_by_texts_that_the_fit_did_not_see(tmp_path):
    examples = taste_examples(users=12, queries=1, candidates=160, shared=True, seed=5)
    common = rng.derive(3, "common").normal(scale=1.5, size=len(examples.texts))
    examples = replace(examples, utility=examples.utility + common[examples.text])
    seen = examples.candidate < 100
    found = {}
    for temper in (False, True):
        model = Hierarchical(components=8, style=False, encoder=LetterEncoder(), temper=temper)
        found[temper] = model.fit(examples.take(seen), rng=0).predict(examples.take(~seen))
    np.testing.assert_array_equal(found[True].mean, found[False].mean)
    factor = (found[True].std / found[False].std) ** 2
    np.testing.assert_allclose(factor, factor[0])
    np.testing.assert_allclose((found[True].std_mean / found[False].std_mean) ** 2, factor)
    error = (examples.utility[~seen] - found[False].mean) ** 2
    wanted = np.mean(error / found[False].std ** 2)
    assert wanted > 1.3, "texts err for everybody, which no leave-one-out label knows"
    assert abs(np.log(wanted / factor[0])) < abs(np.log(wanted))
    model.save(tmp_path)
    again = Hierarchical.load(tmp_path, encoder=LetterEncoder()).predict(examples.take(~seen))
    assert_same(again, found[True])
