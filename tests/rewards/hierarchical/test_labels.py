"""Compact rows against the sums of the labels that they stand for."""

import numpy as np
import pytest

from bestfor.rewards.hierarchical.labels import compress_rows, join_rows
from support.mixed_model import small_rows


def test_compact_rows_keep_all_sums_and_are_few():
    rows = small_rows(users=2, queries=2, size=9)
    data = compress_rows(rows, np.ones(36), levels=False)
    assert np.diff(data.ends).tolist() == [3, 3]
    together = join_rows([data, data], np.float64)
    assert (together.labels, len(together.ends)) == (72, 5)
    for user in range(2):
        mine, part = rows.user == user, slice(data.ends[user], data.ends[user + 1])
        np.testing.assert_allclose(data.rows[part].T @ data.rows[part], rows.z[mine].T @ rows.z[mine], atol=1e-10)
        np.testing.assert_allclose(data.rows[part].T @ data.target[part], rows.z[mine].T @ rows.y[mine], atol=1e-10)
    assert float(data.target @ data.target) + data.rest == pytest.approx(float(rows.y @ rows.y))
