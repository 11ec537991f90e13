from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor.rewards import BradleyTerry
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, assert_same, taste_examples


class TestBradleyTerry(RewardModelTests):
    model = BradleyTerry
    options: ClassVar = {"components": 8, "hidden": 4, "epochs": 3}


def fitted(examples, **options):
    return BradleyTerry(encoder=LetterEncoder(), components=16, **options).fit(examples, rng=0)


@pytest.mark.parametrize("pairs", ["user", "query"])
def test_only_the_order_of_utilities_within_pairs_is_learned(pairs):
    examples = taste_examples(users=5, queries=4)
    moved = replace(examples, utility=2 * examples.utility + 7)
    assert_same(
        fitted(examples, pairs=pairs, epochs=4).predict(examples),
        fitted(moved, pairs=pairs, epochs=4).predict(examples),
    )
    assert BradleyTerry.scale == "arbitrary"


def test_levels_of_queries_do_not_count_within_queries():
    examples = taste_examples(users=5, queries=4)
    levels = 100.0 * np.arange(20)[examples.query]
    first = fitted(examples, pairs="query", epochs=4).predict(examples)
    second = fitted(replace(examples, utility=examples.utility + levels), pairs="query", epochs=4).predict(examples)
    assert_same(first, second)


def test_it_learns_who_likes_what():
    examples = taste_examples(users=20, queries=6, candidates=8, seed=3)
    fit, test = examples.take(examples.candidate < 5), examples.take(examples.candidate >= 5)
    mean = fitted(fit, epochs=20).predict(test).mean
    inside = [np.corrcoef(mean[test.query == code], test.utility[test.query == code])[0, 1] for code in range(120)]
    assert np.mean(inside) > 0.35


def test_ties_teach_nothing():
    examples = taste_examples(users=4, queries=3)
    flat = fitted(replace(examples, utility=np.ones(len(examples))), epochs=3).predict(examples)
    np.testing.assert_array_equal(flat.mean, 0)
