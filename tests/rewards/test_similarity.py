from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor.data.candidates import History
from bestfor.rewards import Similarity
from bestfor.rewards.similarity import preference_weights
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, assert_same, taste_examples


class TestSimilarity(RewardModelTests):
    model = Similarity
    options: ClassVar = {}


def with_history(**options):
    """Two users who wrote three texts each; their three queries are these items."""
    examples = taste_examples(users=2, queries=3, candidates=4, **options)
    texts = {"u0": ("aaab", "aabb", "abbb"), "u1": ("pppo", "ppoo", "pooo")}
    return replace(examples, history=History(texts, {f"q{code}": code % 3 for code in range(6)}))


def fitted(examples, **options):
    return Similarity(encoder=LetterEncoder(), **options).fit(examples, rng=0)


def cosine(left, right):
    left, right = LetterEncoder().encode([left, right]).astype(float)
    return float(left @ right)


@pytest.mark.parametrize(("by", "reduce"), [("max", max), ("mean", lambda values: sum(values) / len(values))])
def test_written_texts_by_brute_force(by, reduce):
    examples = with_history()
    found = fitted(examples, by=by).predict(examples).mean
    for row in np.flatnonzero(examples.query % 3 > 0):
        user, query = examples.users[examples.user[row]], int(examples.query[row])
        text = examples.texts[examples.text[row]]
        expected = reduce([cosine(text, own) for own in examples.history.texts[user][: query % 3]])
        assert found[row] == pytest.approx(expected, abs=1e-6)


def test_rated_texts_by_brute_force():
    examples = taste_examples(users=2, queries=2, candidates=6)
    found = fitted(examples).predict(examples).mean
    for row in range(len(examples)):
        own = np.flatnonzero(examples.user == examples.user[row])
        away = examples.utility[own] - examples.utility[own].mean()
        near = [cosine(examples.texts[examples.text[row]], examples.texts[examples.text[other]]) for other in own]
        near = np.where(examples.text[own] == examples.text[row], 0.0, near)
        assert found[row] == pytest.approx(np.sum(away * near) / np.sum(np.abs(away)), abs=1e-5)


def test_neither_a_reference_nor_what_came_later_helps():
    examples = with_history()
    changed = {"u0": ("aaab", "ccccc", "ddd eee"), "u1": ("pppo", "cc", "fff")}
    model = fitted(examples)
    other = fitted(replace(examples, history=replace(examples.history, texts=changed)))
    second = examples.query % 3 == 1
    for blind in (examples, replace(examples, history=None)):
        np.testing.assert_array_equal(model.predict(blind).mean[second], other.predict(blind).mean[second])
    assert not np.array_equal(model.predict(examples).mean, other.predict(examples).mean)


def test_a_query_without_a_past_does_not_see_its_user():
    examples = with_history()
    changed = {**examples.history.texts, "u0": ("ccc", "ddd", "eee")}
    first = (examples.query % 3 == 0) & (examples.user == 0)
    found = [
        fitted(replace(examples, history=replace(examples.history, texts=texts))).predict(examples).mean[first]
        for texts in (examples.history.texts, changed)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)


def test_saved_without_a_word_of_what_was_written(tmp_path):
    examples = with_history()
    model = fitted(examples)
    model.save(tmp_path)
    again = Similarity.load(tmp_path, encoder=LetterEncoder())
    assert_same(again.predict(examples), model.predict(examples))
    assert "aaab" not in (tmp_path / "config.json").read_text()


def test_ratings_may_be_asked_for_where_histories_are_known():
    examples = with_history()
    rated = fitted(examples, own="rated").predict(examples).mean
    np.testing.assert_array_equal(rated, fitted(replace(examples, history=None)).predict(examples).mean)


def test_likes_are_balanced():
    found = preference_weights(np.array([1.0, 2.0, 3.0, 5.0, 5.0]), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(found, [-0.5, 0.0, 0.5, 0.0, 0.0])
