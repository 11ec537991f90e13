"""The point model: with a linear body and no sharing it is the ridge regression that scikit-learn solves."""

from typing import ClassVar

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.rewards import Point
from bestfor.rewards.rows import canonical
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples
from support import later

linear_model = later("sklearn.linear_model")


class TestPoint(RewardModelTests):
    model = Point
    options: ClassVar = {"components": 8, "hidden": 4, "epochs": 3}


def fitted(examples, **options):
    return Point(encoder=LetterEncoder(), **{"components": 4, "answer": False, **options}).fit(examples, rng=0)


def test_without_sharing_it_is_ridge_regression():
    examples = canonical(taste_examples(users=1, queries=1, candidates=30))
    options = {"shared": False, "held_out": 0.0, "style": False, "deviation": 1.0, "rate": 0.02}
    model = fitted(examples, **options, epochs=200)
    x = model._design(examples).rows()
    reference = linear_model.Ridge(alpha=5.0, fit_intercept=False).fit(
        np.column_stack([x, np.full(len(x), np.sqrt(5.0))]),
        (examples.utility - examples.utility.mean()) / examples.utility.std(),
    )
    expected = examples.utility.mean() + examples.utility.std() * (
        x @ reference.coef_[:-1] + np.sqrt(5.0) * reference.coef_[-1]
    )
    np.testing.assert_allclose(model.predict(examples).mean, expected, atol=0.03)


def test_strong_deviation_leaves_everybody_the_shared_head():
    examples = taste_examples(users=4)
    model = fitted(examples, deviation=1e6, epochs=5)
    same = taste_examples(users=1, queries=3)
    means = [
        model.predict(same.__class__(**{**same.__dict__, "users": (user,)})).mean
        for user in ("u0", "u1", "somebody else")
    ]
    np.testing.assert_allclose(means[0] - means[0].mean(), means[1] - means[1].mean(), atol=0.02)
    assert np.std(means[2]) > 0.08


def test_sharing_helps_users_with_few_labels():
    examples = taste_examples(users=16, queries=4, candidates=8, seed=2)
    fit, test = examples.take(examples.candidate < 3), examples.take(examples.candidate >= 3)
    found = {}
    for shared in (True, False):
        mean = fitted(fit, shared=shared, components=16, epochs=25).predict(test).mean
        inside = [np.corrcoef(mean[test.query == code], test.utility[test.query == code])[0, 1] for code in range(64)]
        found[shared] = np.mean(inside)
    assert found[True] > found[False] + 0.05
    assert found[True] > 0.4


@pytest.mark.slow
def test_the_default_stops_early_and_says_when():
    examples = taste_examples(users=10, queries=3, candidates=8)
    model = fitted(examples)
    assert 1 <= model._state()[0]["epochs"] < 200
    assert 0 < model._state()[0]["noise"] < 1.5


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="'held_out': found 1"):
        Point(held_out=1.0)
