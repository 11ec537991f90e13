from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.candidates import Examples
from bestfor.errors import InputError
from bestfor.rewards import Pooled, Tastes
from bestfor.rewards.features.nearness import unit_kernel
from bestfor.rewards.tastes.factors import _standardise, _start, build_votes, fit_tastes, update_users
from bestfor.rewards.tastes.items import list_items
from bestfor.rewards.tastes.person import Labels, Variances, know
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
    near = unit_kernel(*(vectors / np.linalg.norm(vectors, axis=1, keepdims=True),) * 2, length=0.7)
    return [near + noise * np.eye(items) for noise in (1.0, 3.0)]


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


def known_user(share):
    _, (y, user, query, item), texts = votes_of()
    near = priors_of(9)[0] - np.eye(9)
    labels = Labels.build(12, user, item, query, y)
    mine = labels.item[labels.of(5)]
    person = know(labels, 5, texts[mine], near[np.ix_(mine, mine)], Variances(0.3, 0.4, 0.3 * share))
    return person, near, (y[user == 5], query[user == 5], item[user == 5]), texts


def test_own_part_is_the_exact_posterior_of_a_user():
    person, near, (y, query, item), texts = known_user(0.25)
    h, rest = texts[item, 1:], y - texts[item, 0]
    own = 0.075 * near[np.ix_(item, item)]
    whole = h @ h.T + 0.4 * (query[:, None] == query) + own + 0.225 * np.eye(len(y))
    np.testing.assert_allclose(person.taste, h.T @ np.linalg.solve(whole, rest), atol=1e-10)
    np.testing.assert_allclose(person.spread, np.diag(np.eye(2) - h.T @ np.linalg.solve(whole, h)), atol=1e-10)
    every, prior = texts[:, 1:], texts[:, 1:] @ texts[:, 1:].T + 0.075 * near
    reach = every @ h.T + 0.075 * near[:, item]
    mean, variance = person.judge(every, near[:, item], 0.075)
    np.testing.assert_allclose(mean, reach @ np.linalg.solve(whole, rest), atol=1e-10)
    np.testing.assert_allclose(variance, np.diag(prior - reach @ np.linalg.solve(whole, reach.T)), atol=1e-10)
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        cover = whole - 0.225 * np.eye(len(y))
        expected = cover[row, others] @ np.linalg.solve(whole[np.ix_(others, others)], rest[others])
        assert person.left_out[row] == pytest.approx(rest[row] - expected, abs=1e-9)


def test_without_own_part_tastes_are_those_of_the_regression():
    votes, _, texts = votes_of()
    state = replace(_start(votes, 2, 0), item=texts, item_variance=np.zeros_like(texts), noise=0.3, level_scale=0.4)
    expected, (person, *_) = update_users(votes, state), known_user(0.0)
    np.testing.assert_allclose(person.taste, expected.taste[5], atol=1e-9)
    np.testing.assert_allclose(person.spread, np.diag(expected.spread[5]), atol=1e-9)
    assert not person.echo.any()


def test_further_labels_make_users_what_a_fit_with_them_would():
    """With h and the variances held, absorbing labels one by one is the posterior of all of them."""
    examples, _, _ = rated(seed=4)
    first = examples.text < 80
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(first), rng=0)
    later = examples.take(~first & (examples.text < 120))
    queries = tuple(f"{name}/later" for name in examples.queries)
    halves = [replace(later.take(later.text % 2 == odd), queries=queries) for odd in (0, 1)]
    names = tuple(f"{name}/{odd}" for odd in (0, 1) for name in queries)
    for half, name in zip(halves, (names[: len(queries)], names[len(queries) :]), strict=True):
        model.update(replace(half, queries=name))
    code = model._users.index("u7")
    labels = model._labels
    mine = labels.of(code)
    again = Labels.build(
        1, np.zeros(mine.stop - mine.start, int), labels.item[mine], labels.query[mine], labels.y[mine]
    )
    assert len(np.unique(again.query)) == 3
    assert len(again.y) == int(np.sum((examples.user == 7) & (examples.text < 120)))
    looks = model._looks.take(again.item)
    variances = Variances(model._shared.noise, model._shared.level_scale, 0.2 * model._shared.noise)
    exact = know(again, 0, model._shared.mean[again.item], model._nearness.between(looks, looks), variances)
    fresh = examples.take((examples.text >= 120) & (examples.user == 7))
    mean, _, near = model._items(list_items(fresh))
    row = list_items(fresh).row
    expected = mean[row, 0] + mean[row, 1:] @ exact.taste + near[row][:, exact.item] @ exact.echo
    np.testing.assert_allclose(model.predict(fresh).mean, model._centre + model._unit * expected, rtol=1e-7)


def test_further_labels_of_others_leave_a_user_alone_and_survive_storage(tmp_path):
    examples, divide, camp = rated(seed=5)
    old, newcomer = examples.user != 3, examples.user == 3
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(old & (examples.text < 100)), rng=0)
    asked = examples.take(old & (examples.text >= 100))
    before = model.predict(asked).mean
    theirs = examples.take(newcomer & (examples.text >= 100))
    unknown = model.predict(theirs)
    model.update(examples.take(newcomer & (examples.text < 100)))
    known = model.predict(theirs)
    np.testing.assert_array_equal(model.predict(asked).mean, before)
    truth = camp[3] * divide[theirs.text]
    assert np.corrcoef(known.mean, truth)[0, 1] > np.corrcoef(unknown.mean, truth)[0, 1] + 0.2
    assert known.std_mean.mean() < unknown.std_mean.mean()
    model.save(tmp_path)
    for user in (None, "u3"):
        again = Tastes.load(tmp_path, encoder=LetterEncoder(), user=user)
        np.testing.assert_array_equal(again.predict(theirs).mean, known.mean)
        np.testing.assert_array_equal(again.predict(theirs).std, known.std)


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
