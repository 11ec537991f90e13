"""Leave-one-out errors of rows against refits."""

import numpy as np
import pytest

from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.left_out import left_out_rows
from bestfor.rewards.hierarchical.users import fit_posteriors
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
