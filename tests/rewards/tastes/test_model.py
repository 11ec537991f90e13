"""Tastes: conformance, unseen texts, and further labels."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.errors import InputError
from bestfor.rewards import Pooled, Tastes
from bestfor.rewards.tastes import list_items
from bestfor.rewards.tastes.person import PersonVariances, UserRatings, fit_person
from bestfor.testing.rewards import LETTERS, LetterEncoder, RewardModelTests, taste_examples


class TestTastes(RewardModelTests):
    model = Tastes
    options: ClassVar = {"tastes": 3}


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
        Candidates(names, names, ("",) * users, words, user, user, text, text, y, np.full(len(y), np.nan)),
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


def test_further_labels_make_users_what_a_fit_with_them_would():
    """With h and the variances held, adding labels one by one is the posterior of all of them."""
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
    labels = model._ratings
    mine = labels.of(code)
    again = UserRatings.build(
        1, np.zeros(mine.stop - mine.start, int), labels.item[mine], labels.query[mine], labels.y[mine]
    )
    assert len(np.unique(again.query)) == 3
    assert len(again.y) == int(np.sum((examples.user == 7) & (examples.text < 120)))
    vectors = model._vectors.take(again.item)
    variances = PersonVariances(model._shared.noise, model._shared.level_scale, 0.2 * model._shared.noise)
    exact = fit_person(again, 0, model._shared.mean[again.item], model._nearness.between(vectors, vectors), variances)
    fresh = examples.take((examples.text >= 120) & (examples.user == 7))
    mean, _, near = model._items(list_items(fresh))
    row = list_items(fresh).row
    expected = mean[row, 0] + mean[row, 1:] @ exact.taste + near[row][:, exact.item] @ exact.own_weights
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
