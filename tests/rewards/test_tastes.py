from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.examples import Examples
from bestfor.errors import InputError
from bestfor.rewards import Pooled, Tastes
from bestfor.rewards._linear import Rows
from bestfor.rewards._own import add_own_part, own_rows
from bestfor.rewards._tastes import _standardise, _start, build_votes, fit_tastes, kernel, update_users
from bestfor.testing.rewards import LETTERS, LetterEncoder, RewardModelTests, taste_examples


class TestTastes(RewardModelTests):
    model = Tastes
    options: ClassVar = {"tastes": 3}


def votes_of(users=12, items=9, queries=2, seed=0):
    draw = rng.derive(seed, "votes")
    query, item = np.nonzero(draw.random((users * queries, items)) < 0.7)
    user = query // queries
    likes, level = draw.normal(size=(users, 2)), 0.5 * draw.normal(size=users * queries)
    texts = draw.normal(size=(items, 3))
    y = (
        texts[item, 0]
        + np.sum(likes[user] * texts[item, 1:], axis=1)
        + level[query]
        + 0.3 * draw.normal(size=len(user))
    )
    return build_votes(y, user, query, item), (y, user, query, item), texts


def priors_of(items, seed=0):
    vectors = rng.derive(seed, "vectors").normal(size=(items, 5))
    near = kernel(*(vectors / np.linalg.norm(vectors, axis=1, keepdims=True),) * 2, length=0.7)
    return [near + noise * np.eye(items) for noise in (1.0, 3.0)]


def test_kernel_is_the_rational_quadratic():
    left, right = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(kernel(left, right, 0.5)[0], [1, 1 / (1 + 2 / 0.5), 1 / (1 + 4 / 0.5)])


def test_users_get_the_posterior_of_a_regression_on_known_texts():
    votes, (y, user, query, item), texts = votes_of()
    state = replace(_start(votes, 2, 0), item=texts, item_variance=np.zeros_like(texts), noise=0.2, level_scale=0.4)
    found = update_users(votes, state)
    for code in (0, 5):
        mine = user == code
        h, rest, own = texts[item[mine], 1:], y[mine] - texts[item[mine], 0], query[mine]
        same = own[:, None] == own[None, :]
        inverse = np.linalg.inv(0.2 * np.eye(mine.sum()) + 0.4 * same)
        spread = np.linalg.inv(np.eye(2) + h.T @ inverse @ h)
        np.testing.assert_allclose(found.spread[code], spread, atol=1e-10)
        np.testing.assert_allclose(found.taste[code], spread @ h.T @ inverse @ rest, atol=1e-10)
        # joint of tastes and levels, by brute force
        wide = np.column_stack([h, own[:, None] == np.unique(own)[None, :]]).astype(float)
        precision = wide.T @ wide / 0.2 + np.diag([1.0, 1.0] + [1 / 0.4] * len(np.unique(own)))
        covariance = np.linalg.inv(precision)
        mean = covariance @ wide.T @ rest / 0.2
        np.testing.assert_allclose(found.level[np.unique(own)], mean[2:], atol=1e-10)
        np.testing.assert_allclose(found.level_variance[np.unique(own)], np.diag(covariance)[2:], atol=1e-10)
        np.testing.assert_allclose(found.cross[np.unique(own)], covariance[2:, :2], atol=1e-10)


def test_standardising_changes_no_prediction():
    votes, (_, user, query, item), texts = votes_of()
    state = replace(_start(votes, 2, 0), item=texts, item_variance=np.full(texts.shape, 0.01))
    before = update_users(votes, state)
    after = _standardise(votes, before)

    def predictions(state):
        return state.item[item, 0] + np.sum(state.taste[user] * state.item[item, 1:], axis=1) + state.level[query]

    np.testing.assert_allclose(predictions(before), predictions(after), atol=1e-10)
    moment = after.taste.T @ after.taste / len(after.taste) + after.spread.mean(axis=0)
    np.testing.assert_allclose(moment, np.eye(2), atol=1e-4)


def test_without_tastes_the_mean_is_the_exact_gaussian_process():
    votes, (y, _, query, item), _ = votes_of()
    priors = priors_of(9)
    found = fit_tastes(votes, priors, 0, 400, rng=0)
    general = found.scale[0] * priors[0]
    cover = general[np.ix_(item, item)] + found.level_scale * (query[:, None] == query[None, :])
    exact = general[:, item] @ np.linalg.solve(cover + found.noise * np.eye(len(y)), y)
    np.testing.assert_allclose(found.item[:, 0] - found.item[:, 0].mean(), exact - exact.mean(), atol=0.02)


def test_noise_and_tastes_of_a_simulation_are_found():
    votes, (y, user, query, item), _ = votes_of(users=200, items=60)
    found = fit_tastes(votes, priors_of(60), 5, 40, rng=0)
    assert found.noise == pytest.approx(0.09, rel=0.25)
    fitted = found.item[item, 0] + np.sum(found.taste[user] * found.item[item, 1:], axis=1) + found.level[query]
    assert np.corrcoef(fitted, y)[0, 1] > 0.95
    assert found.scale[1:].min() < 0.05 * found.scale[1]


def rated(users=60, texts=150, seed=0):
    """Two camps that disagree on letters a to h, everybody rates about a third of the texts."""
    draw = rng.derive(seed, "camps")
    words = tuple("".join(draw.choice(list(LETTERS), size=12)) for _ in range(texts))
    vectors = LetterEncoder().encode(words).astype(float)
    divide = vectors[:, :8].sum(axis=1) - vectors[:, 8:].sum(axis=1)
    user, text = np.nonzero(draw.random((users, texts)) < 0.35)
    camp = np.where(np.arange(users) % 2, 1.0, -1.0)
    y = camp[user] * divide[text] + 0.5 * draw.normal(size=len(user))
    names = tuple(f"u{code}" for code in range(users))
    return (
        Examples(names, names, ("",) * users, words, user, user, text, text, y, np.full(len(y), np.nan)),
        divide,
        camp,
    )


def test_unseen_texts_are_judged_by_camp():
    examples, divide, camp = rated()
    seen = examples.text < 100
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(seen), rng=0)
    fresh = examples.take(~seen)
    estimate = model.predict(fresh)
    truth = camp[fresh.user] * divide[fresh.text]
    assert np.corrcoef(estimate.mean, truth)[0, 1] > 0.8
    pooled = Pooled(encoder=LetterEncoder()).fit(examples.take(seen), rng=0).predict(fresh)
    assert np.corrcoef(pooled.mean, truth)[0, 1] < 0.3
    covered = np.abs(fresh.utility - estimate.mean) < 1.96 * estimate.std
    assert 0.9 < covered.mean() <= 0.995


def test_ratings_of_others_on_the_very_text_count():
    examples, _, _ = rated(seed=1)
    away = (examples.user == 0) | (examples.user == 1)
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(~away | (examples.text < 100)), rng=0)
    asked = examples.take(away & (examples.text >= 100))
    renamed = replace(asked, texts=tuple(f"{text} " for text in asked.texts))
    known, unknown = model.predict(asked), model.predict(renamed)
    assert np.mean(known.std) < np.mean(unknown.std)


def test_too_many_texts_name_the_alternative():
    with pytest.raises(InputError, match="at most 5; kind 'hierarchical'"):
        Tastes(encoder=LetterEncoder(), max_items=5).fit(taste_examples(), rng=0)


def test_another_encoder_is_refused(tmp_path):
    Tastes(encoder=LetterEncoder()).fit(taste_examples(), rng=0).save(tmp_path)
    other = LetterEncoder()
    other.signature = "letters-2"
    with pytest.raises(InputError, match="letters-2"):
        Tastes.load(tmp_path, encoder=other).predict(taste_examples(seed=3))


def test_own_part_is_the_exact_posterior_of_each_user():
    votes, (y, user, query, item), texts = votes_of()
    near = priors_of(9)[0] - np.eye(9)
    state = replace(_start(votes, 2, 0), item=texts, noise=0.3, level_scale=0.4)
    rows = Rows(np.zeros((len(y), 0)), y, user, query)
    found, echo = add_own_part(rows, item, near, state, 0.25)
    asked = own_rows(echo, near, np.arange(9), np.full(9, 5))
    mine = user == 5
    h, rest, own = texts[item[mine], 1:], y[mine] - texts[item[mine], 0], query[mine]
    own_cover = 0.075 * near[np.ix_(item[mine], item[mine])]
    whole = h @ h.T + 0.4 * (own[:, None] == own) + own_cover + 0.225 * np.eye(mine.sum())
    np.testing.assert_allclose(found.taste[5], h.T @ np.linalg.solve(whole, rest), atol=1e-10)
    np.testing.assert_allclose(found.spread[5], np.eye(2) - h.T @ np.linalg.solve(whole, h), atol=1e-10)
    np.testing.assert_allclose(asked, 0.075 * near[:, item[mine]] @ np.linalg.solve(whole, rest), atol=1e-10)
    assert not own_rows(echo, near, np.arange(9), np.full(9, -1)).any()


def test_without_own_part_tastes_are_those_of_the_regression():
    votes, (y, user, query, item), texts = votes_of()
    state = replace(_start(votes, 2, 0), item=texts, item_variance=np.zeros_like(texts), noise=0.3, level_scale=0.4)
    rows = Rows(np.zeros((len(y), 0)), y, user, query)
    found, echo = add_own_part(rows, item, np.eye(9), state, 0.0)
    expected = update_users(votes, state)
    np.testing.assert_allclose(found.taste, expected.taste, atol=1e-9)
    np.testing.assert_allclose(found.spread, expected.spread, atol=1e-9)
    assert not echo.data.any()


def test_a_user_alone_in_their_taste_is_heard():
    examples, _, _ = rated(seed=2)
    vectors = LetterEncoder().encode(examples.texts).astype(float)
    alone = np.isin(examples.user, np.arange(8))
    tastes = rng.derive(3, "alone").normal(size=(8, len(LETTERS)))
    own_taste = 3 * np.sum(vectors[examples.text] * tastes[np.minimum(examples.user, 7)], axis=1)
    examples = replace(examples, utility=np.where(alone, own_taste, examples.utility))
    seen = examples.text < 100
    fresh = examples.take(~seen & alone)
    options = {"encoder": LetterEncoder(), "tastes": 1}
    shared, own = (
        Tastes(**options, own_share=share).fit(examples.take(seen), rng=0).predict(fresh).mean for share in (0.0, 0.5)
    )
    assert np.corrcoef(own, fresh.utility)[0, 1] > np.corrcoef(shared, fresh.utility)[0, 1] + 0.1
