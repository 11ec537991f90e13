"""Tastes: conformance, unseen texts, and further labels."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Preferred
from bestfor.errors import InputError
from bestfor.rewards import Pooled, Tastes
from bestfor.rewards.tastes import list_items
from bestfor.rewards.tastes.person import UserRatings, fit_person
from bestfor.testing.rewards import LETTERS, LetterEncoder, RewardModelTests, labels_of, taste_examples


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


@pytest.mark.parametrize("options", [{}, {"landmarks": 20}])
def test_one_request_is_scored_as_the_rows_of_everybody(options, monkeypatch):
    """Kept users and kernels change no result: against the way of many users, which keeps none."""
    examples, _, _ = rated(users=9, texts=40, seed=4)
    model = Tastes(encoder=LetterEncoder(), tastes=3, rounds=4, **options).fit(examples.take(examples.text < 30), rng=0)
    texts = (*examples.texts[25:35], "a text that nobody rated", examples.texts[2])
    users = ["u3", "u4", "somebody", "u3"]
    found = [model.score(user, "", texts) for user in users]
    monkeypatch.setattr("bestfor.rewards.tastes.model.FEW", -1)
    monkeypatch.setattr("bestfor.rewards.tastes.model.MANY", -1)
    monkeypatch.setattr("bestfor.rewards.tastes.model.NARROW", -1)
    every = model.predict(Candidates.of(users, [""] * 4, [texts] * 4))
    for place, one in enumerate(found):
        part = slice(place * len(texts), (place + 1) * len(texts))
        np.testing.assert_allclose(one.mean, every.mean[part], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(one.std, every.std[part], rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(np.diag(one.cov_mean)), every.std_mean[part], rtol=1e-6)
    np.testing.assert_allclose(found[0].cov_mean, model.score("u3", "", texts).cov_mean, rtol=1e-6, atol=1e-9)


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
    """With h and the variances held, a person is the posterior of the fit's ratings and those since."""
    examples, _, _ = rated(seed=4)
    first = examples.text < 80
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(first), rng=0)
    mine = examples.take(examples.user == 7)
    later, fresh = (mine.take((mine.text >= low) & (mine.text < high)) for low, high in ((80, 120), (120, 150)))
    items, known = list_items(later), model._ratings.of(model._users.index("u7"))
    mean, _, vectors = model.items(items)
    target = (later.utility - model._centre) / model._unit
    place = np.concatenate([model._ratings.item[known], items.row])
    h = np.vstack([model._shared.mean[model._ratings.item[known]], mean[items.row]])
    vectors = model._vectors.take(model._ratings.item[known]).join(vectors.take(items.row))
    y = np.concatenate([model._ratings.y[known], target])
    query = np.repeat([0, 1], [known.stop - known.start, len(target)])
    labels = UserRatings.build(1, np.zeros(len(y), int), place, query, y)
    exact = fit_person(labels, 0, h, model.nearness.between(vectors, vectors), model.variances())
    asked = list_items(fresh)
    mean, _, own = model.items(asked)
    near = model.nearness.between(own, vectors)
    expected = (mean[:, 0] + mean[:, 1:] @ exact.taste + near @ exact.own_weights)[asked.row]
    found = model.person("u7", labels_of(later, "u7")).score("", [fresh.texts[code] for code in fresh.text])
    np.testing.assert_allclose(found.mean, model._centre + model._unit * expected, rtol=1e-7)


def test_what_a_newcomer_says_makes_their_taste_known():
    examples, divide, camp = rated(seed=5)
    old, newcomer = examples.user != 3, examples.user == 3
    model = Tastes(encoder=LetterEncoder()).fit(examples.take(old & (examples.text < 100)), rng=0)
    theirs = examples.take(newcomer & (examples.text >= 100))
    texts = [theirs.texts[code] for code in theirs.text]
    unknown = model.score("u3", "", texts)
    labels = labels_of(examples.take(newcomer & (examples.text < 100)), "u3")
    pairs = [Preferred("", a.text, b.text) for a in labels.rated for b in labels.rated if a.utility > b.utility]
    truth = camp[3] * divide[theirs.text]
    for said in (labels, Labels(preferred=tuple(pairs[::7]))):
        known = model.person("u3", said).score("", texts)
        assert np.corrcoef(known.mean, truth)[0, 1] > np.corrcoef(unknown.mean, truth)[0, 1] + 0.2
        assert known.std_mean.mean() < unknown.std_mean.mean()


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
