"""Who abstains: users whose own models err more than the shared one, judged among all users."""

from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards import BradleyTerry, Ensemble, Gaussian, Point, Pooled, Ridge
from bestfor.rewards.abstain import abstaining, left_out_levels
from bestfor.testing.rewards import LetterEncoder, taste_examples

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


def errors_of(gains, rows=40, seed=0):
    """Squared errors that differ by the users' gains on average."""
    draw = rng.derive(seed, "abstain")
    user = np.repeat(np.arange(len(gains)), rows)
    personal = draw.normal(size=len(user))
    difference = np.array(gains)[user] + 0.3 * draw.normal(size=len(user))
    return user, personal, np.sqrt(np.maximum(personal**2 + difference, 0))


def test_clear_cases_are_told_apart():
    found = abstaining(*errors_of([2.0, 2.0, -0.9, 2.0, -0.9, 2.0], rows=400))
    np.testing.assert_array_equal(found, [False, False, True, False, True, False])


def test_equal_models_leave_nobody_a_part_of_their_own():
    user = np.repeat(np.arange(5), 4)
    same = rng.derive(1, "same").normal(size=20)
    np.testing.assert_array_equal(abstaining(user, same, same), np.ones(5, bool))


@pytest.mark.parametrize(("usual", "expected"), [(0.5, False), (-0.2, True)])
def test_a_user_with_little_evidence_follows_the_others(usual, expected):
    draw = rng.derive(2, "few", str(usual))
    user, personal, shared = errors_of([usual + 0.1 * draw.normal() for _ in range(60)], rows=60)
    odd = -np.sign(usual) * 0.05
    few_user = np.append(user, [60, 60])
    few = abstaining(few_user, np.append(personal, [1.0, 1.0]), np.append(shared, np.sqrt([1 + odd, 1 + odd])))
    assert few[60] == expected


def test_rows_without_an_answer_are_left_out():
    user, personal, shared = errors_of([2.0, -0.9], rows=50)
    shared[:50] = np.nan
    np.testing.assert_array_equal(abstaining(user, personal, shared), [False, True])
    assert not abstaining(user, personal, np.full(100, np.nan)).any()


def test_levels_come_from_the_other_rows_of_the_query():
    error, query = np.array([1.0, 2.0, 6.0, 5.0]), np.array([0, 0, 0, 1])
    found = left_out_levels(error, query)
    np.testing.assert_allclose(found[:3], [1 - 4, 2 - 3.5, 6 - 1.5])
    assert np.isnan(found[3])


def test_a_user_whose_labels_are_all_alike_does_not_upset_the_others():
    user, personal, shared = errors_of([0.5] * 20, rows=40, seed=3)
    before = abstaining(user, personal, shared)
    alike = abstaining(
        np.append(user, np.full(40, 20)), np.append(personal, np.full(40, 0.05)), np.append(shared, np.zeros(40))
    )
    np.testing.assert_array_equal(alike[:20], before)


def alike():
    """Noisy labels of ten users with one taste."""
    examples = taste_examples(users=10, queries=4, candidates=20, seed=3)
    draw = rng.derive(0, "alike")
    liking = LetterEncoder().encode(examples.texts).astype(np.float64) @ draw.normal(size=16)
    noise = 1.5 * draw.normal(size=len(examples))
    return replace(examples, utility=(liking / liking.std())[examples.text] + noise)


@pytest.mark.slow
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
