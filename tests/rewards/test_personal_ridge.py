from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards import BradleyTerry, Ensemble, Gaussian, Point, Pooled, Ridge
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples

HEADS = {"epochs": 12, "hidden": 0, "deviation": 0.05, "rate": 0.03, "held_out": 0.4, "patience": 2}
HASTE = {**HEADS, "rate": 0.3, "epochs": 3}


CASES = [
    (Ridge, {"slope": 0.3}),
    (Point, HASTE),
    (Point, {**HEADS, "shared": False}),
    (Gaussian, {**HEADS, "warm_up": 11}),
    (Gaussian, {**HASTE, "warm_up": 0, "loss": "natural"}),
    (BradleyTerry, HASTE),
    (BradleyTerry, {**HASTE, "pairs": "query"}),
    (Ensemble, {**HASTE, "members": 2}),
]


class TestRidge(RewardModelTests):
    model = Ridge
    options: ClassVar = {"components": 8}


class TestCautious(RewardModelTests):
    model = Ridge
    options: ClassVar = {"components": 8, "abstain": True}


def alike():
    """Noisy labels of ten users with one taste."""
    examples = taste_examples(users=10, queries=4, candidates=20, seed=3)
    draw = rng.derive(0, "alike")
    liking = LetterEncoder().encode(examples.texts).astype(np.float64) @ draw.normal(size=16)
    noise = 1.5 * draw.normal(size=len(examples))
    return replace(examples, utility=(liking / liking.std())[examples.text] + noise)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_who_has_no_taste_of_their_own_abstains_where_that_is_asked_for(kind, options):
    examples = alike()
    build = {"components": 16, "style": False, "answer": False, "encoder": LetterEncoder(), **options}
    careful = kind(abstain=True, **build).fit(examples, rng=0)
    assert len(careful.abstained) >= 4
    assert any("without a part of their own" in note for note in careful.notes)
    bold = kind(**build).fit(examples, rng=0)
    assert bold.abstained == ()
    mine = np.isin(examples.user, [examples.users.index(user) for user in careful.abstained])
    careful_mean, bold_mean = careful.predict(examples).mean, bold.predict(examples).mean
    np.testing.assert_array_equal(careful_mean[~mine], bold_mean[~mine])
    assert np.all(careful_mean[mine] != bold_mean[mine])


def test_who_abstains_gets_the_pooled_ridge():
    examples, build = alike(), {"components": 16, "whiten": True, "encoder": LetterEncoder()}
    careful = Ridge(abstain=True, slope=0.3, **build).fit(examples, rng=0)
    mine = examples.user == examples.users.index(careful.abstained[0])
    pooled = Pooled(**build).fit(examples, rng=0).predict(examples.take(mine))
    np.testing.assert_array_equal(careful.predict(examples.take(mine)).mean, pooled.mean)


@pytest.mark.parametrize(("kind", "options"), [(Ridge, {}), (Point, HEADS), (BradleyTerry, HEADS)])
def test_who_has_a_taste_of_their_own_keeps_it(kind, options):
    examples = taste_examples(users=5, queries=3, candidates=20, seed=2)
    model = kind(abstain=True, components=16, style=False, answer=False, encoder=LetterEncoder(), **options)
    assert model.fit(examples, rng=0).abstained == ()
