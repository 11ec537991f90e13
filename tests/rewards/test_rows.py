"""Row-wise arithmetic: what is quick says what the plain formula does, to the bit."""

import numpy as np
import pytest

from bestfor.rewards.rows import by_code, rounded, with_intercept


def plainly(values):
    """Nine significant digits by powers of ten, nothing beyond 10^290."""
    size = np.where(values == 0, 1.0, np.abs(values))
    exponent = np.floor(np.log10(size))
    factor = np.power(10.0, 8 - np.clip(exponent, -290, 290))
    return np.where(np.abs(exponent) > 290, 0.0, np.rint(values * factor) / factor)


draw = np.random.default_rng(0)
VALUES = {
    "ordinary": draw.normal(size=(30, 30)),
    "of all sizes": draw.normal(size=10_000) * 10.0 ** draw.integers(-289, 289, 10_000),
    "nothing": np.zeros((0, 3)),
    "zeros": np.array([0.0, -0.0, 1.0, -1.0]),
    "ends": np.array([1e290, -1e290, 1e-290, 3.0]),
    "beyond": np.array([1e291, 1e-291, -1e300, 5e-324, 2.0]),
    "no number": np.array([np.nan, 1.23456789012]),
}


@pytest.mark.parametrize("name", VALUES)
def test_rounding_by_a_table_gives_the_bits_of_powers(name):
    found, expected = rounded(VALUES[name]), plainly(VALUES[name])
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def test_a_number_is_rounded_too():
    assert rounded(np.array(1 / 3)) == 0.333333333


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_intercept_is_a_column_of_ones_in_double_precision(kind):
    values = draw.normal(size=(4, 3)).astype(kind)
    found = with_intercept(values)
    assert found.dtype == np.float64
    assert np.array_equal(found, np.column_stack([values, np.ones(4)]))


@pytest.mark.parametrize("codes", [[2, 2, 2], [1, 0, 1, -1, 0], [], [5]])
def test_rows_of_each_code_in_order(codes):
    codes = np.array(codes, dtype=np.int64)
    found = {code: rows.tolist() for code, rows in by_code(codes)}
    assert found == {code: np.flatnonzero(codes == code).tolist() for code in np.unique(codes).tolist()}
    assert list(found) == sorted(found)
