"""Leave-one-out errors of rows against refits."""

import numpy as np
import pytest

from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.left_out import left_out_rows
from bestfor.rewards.hierarchical.users import deviation_factors, deviation_variances, fit_posteriors
from bestfor.rewards.rows import FeatureRows
from support.mixed_model import brute, sizes_of, small_prior, small_rows


@pytest.mark.parametrize("ratio", [0.0, 0.7])
@pytest.mark.parametrize("size", [2, 5])
def test_left_out_errors_are_those_of_refits(ratio, size):
    rows, prior = small_rows(users=2, size=size), small_prior(ratio=ratio)
    sizes = sizes_of(rows, True)
    posteriors = fit_posteriors(compress_rows(rows, sizes, levels=ratio > 0), prior)
    found = left_out_rows(rows, sizes, posteriors)
    _, personal, noise = brute(rows, prior, sizes)
    whole, rest = personal + noise, rows.y - rows.z @ posteriors.shared
    for row in range(len(rows.y)):
        others = np.arange(len(rows.y)) != row
        weights = np.linalg.solve(whole[np.ix_(others, others)], whole[others, row])
        assert found.error[row] == pytest.approx(rest[row] - weights @ rest[others], abs=1e-8)
        assert found.variance[row] == pytest.approx(whole[row, row] - weights @ whole[others, row], abs=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_users_solved_together_have_the_bits_of_one_after_the_other(dtype):
    draw, counts = np.random.default_rng(0), np.array([3, 1, 4, 3, 7, 3, 4])
    user, p = np.repeat(np.arange(len(counts)), counts), 3
    z = np.column_stack([draw.normal(size=(len(user), p - 1)), np.ones(len(user))]).astype(dtype)
    query = np.unique(user * 2 + draw.integers(2, size=len(user)), return_inverse=True)[1]
    rows = FeatureRows(z, draw.normal(size=len(user)), user, query)
    posteriors = fit_posteriors(compress_rows(rows, np.ones(len(user)), levels=True), small_prior(ratio=0.5))
    given, offsets = z.astype(np.float64), rows.segments()
    found = deviation_variances(posteriors, given, offsets)
    for code in range(len(counts)):
        part = slice(offsets[code], offsets[code + 1])
        reach, seen = deviation_factors(posteriors, given[part], code)
        alone = np.sum(reach * given[part], axis=1) - np.sum(seen**2, axis=1)
        assert found[part].tobytes() == alone.tobytes()
        np.testing.assert_array_equal(
            deviation_variances(posteriors, given[part], np.array([0, counts[code]]), code), alone
        )
