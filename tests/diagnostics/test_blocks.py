"""Arrays in memory are diagnosed in blocks of pools of like sizes."""

import numpy as np
import pytest

from bestfor.diagnostics import diagnose_arrays, pools_from_rows
from bestfor.diagnostics.blocks import measure_blocks
from bestfor.diagnostics.table.pools import pools_of
from bestfor.diagnostics.table.rows import sort_rows
from bestfor.errors import InputError


def arrays(rng, sizes):
    query = np.repeat(np.arange(len(sizes)), sizes)
    return query // 3, query, rng.standard_normal(len(query)).round(1), rng.standard_normal(len(query))


def test_blocks_of_arrays_are_alike_in_size_and_change_nothing():
    rng = np.random.default_rng(13)
    sizes = rng.choice([1, 2, 3, 5, 8, 150], 200)
    user, query, utility, reward = arrays(rng, sizes)
    rows = sort_rows(user, query, utility, {"x": reward})
    blocks = list(rows.blocks(300))
    assert len(blocks) > 5
    assert np.array_equal(np.sort(np.concatenate(blocks)), np.arange(200))
    for block in blocks:
        assert len(block) * rows.size[block].max() <= 2 * rows.size[block].sum()
    n = np.array([1, 2, 3])
    one = measure_blocks(lambda: [pools_from_rows(user, query, utility, {"x": reward})], n)
    many = measure_blocks(lambda: (pools_of(rows, block) for block in rows.blocks(300)), n)
    assert one.queries.user_ids == many.queries.user_ids
    back = np.argsort(many.queries.key)[np.argsort(np.argsort(one.queries.key))]
    np.testing.assert_array_equal(one.queries.key, many.queries.key[back])
    np.testing.assert_array_equal(one.queries.user, many.queries.user[back])
    np.testing.assert_array_equal(one.queries.size, many.queries.size[back])
    found, expected = many.queries.models["x"].correlation[back], one.queries.models["x"].correlation
    np.testing.assert_allclose(found, expected, atol=1e-13)
    for what in ("curve", "noise", "gain", "rest", "pool"):
        np.testing.assert_allclose(
            getattr(many.queries.sums.models["x"], what), getattr(one.queries.sums.models["x"], what), atol=1e-12
        )
    asked = np.array([7, 2, 30])
    (fetched,), (expected,) = many.pools_at((back[asked], None)), one.pools_at((asked, None))
    assert fetched.query_ids == expected.query_ids
    np.testing.assert_array_equal(fetched.utility, expected.utility)
    np.testing.assert_array_equal(fetched.user, expected.user)


@pytest.mark.parametrize("value", [1e308, -1e200, 1e61])
def test_arrays_of_numbers_too_large_to_be_squared_are_refused(value):
    user, query, utility, reward = arrays(np.random.default_rng(14), [4] * 6)
    for name, column in (("utility", utility), ("rewards 'x'", reward)):
        kept = column[5]
        column[5] = value
        with pytest.raises(InputError, match=f"{name}, row 6: found"):
            diagnose_arrays(user, query, utility, {"x": reward})
        column[5] = kept


@pytest.mark.parametrize("size", [1e-55, 1e55])
def test_numbers_of_any_usual_size_scale(size):
    user, query, utility, reward = arrays(np.random.default_rng(15), [6] * 60)
    plain = diagnose_arrays(user, query, utility, {"x": reward}).models["x"]
    scaled = diagnose_arrays(user, query, utility * size, {"x": reward * size}).models["x"]
    np.testing.assert_allclose(scaled.gain.value, plain.gain.value * size, rtol=1e-9)
    np.testing.assert_allclose(scaled.gain.low, plain.gain.low * size, rtol=1e-9)
    assert scaled.quantities.rho.value == pytest.approx(plain.quantities.rho.value)


def test_large_pools_are_fetched_cut_and_always_to_the_same_candidates():
    rng = np.random.default_rng(16)
    sizes = np.array([5, 40, 3, 12, 30, 30])
    user, query, utility, reward = arrays(rng, sizes)
    rows = sort_rows(user, query, utility, {"x": reward})
    n = np.array([1, 2])
    found = measure_blocks(lambda: (pools_of(rows, block) for block in rows.blocks(20)), n)
    asked = np.array([4, 0, 1])
    whole, cut = found.pools_at((asked, None), (asked, 12))
    assert cut.size.tolist() == [12, 5, 12]
    assert cut.utility.shape == (3, 12)
    for place in range(3):
        kept = cut.candidate[place, : cut.size[place]]
        assert (np.diff(kept) > 0).all()
        for name in ("utility", "candidate"):
            np.testing.assert_array_equal(
                getattr(cut, name)[place, : len(kept)], getattr(whole, name)[place, kept], err_msg=name
            )
        np.testing.assert_array_equal(cut.rewards["x"][place, : len(kept)], whole.rewards["x"][place, kept])
    (again,) = found.pools_at((np.array([1, 4]), 12))
    np.testing.assert_array_equal(again.candidate, cut.candidate[[2, 0]])


@pytest.mark.slow
def test_a_pool_of_fifty_thousand_takes_no_memory_for_the_others():
    sizes = np.full(400, 5)
    sizes[7] = 50_000
    user, query, utility, reward = arrays(np.random.default_rng(17), sizes)
    found = diagnose_arrays(user, query, utility, {"x": reward})
    assert found.candidates == sizes.sum()
    assert found.n.tolist() == [1, 2, 4, 5]
