"""Who abstains: users whose own models err more than the shared one, judged among all users."""

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.abstain import abstaining, left_out_levels


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
