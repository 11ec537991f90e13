import numpy as np
import pyarrow as pa
import pytest

from bestfor.diagnostics.table.pools import Reward, pools_from_rows
from bestfor.errors import InputError

ROWS = {"user": ["b", "a", "a", "b", "b"], "query": [1, 1, 1, 1, 1], "utility": [1.0, 2, 3, 4, 5]}


def test_rows_become_sorted_pools_and_a_query_id_belongs_to_its_user():
    pools = pools_from_rows(**ROWS, rewards={"x": [9.0, 8, 7, 6, 5]}, text=["t", "u", "t", "u", "v"])
    assert pools.user_ids == ("a", "b")
    assert pools.query_ids == ("1", "1")
    assert pools.size.tolist() == [2, 3]
    np.testing.assert_array_equal(pools.utility, [[2, 3, 0], [1, 4, 5]])
    np.testing.assert_array_equal(pools.rewards["x"], [[8, 7, 0], [9, 6, 5]])
    np.testing.assert_array_equal(pools.text, [[1, 0, -1], [0, 1, 2]])
    np.testing.assert_array_equal(pools.candidate, [[0, 1, -1], [0, 1, 2]])
    np.testing.assert_array_equal(pools.mask, [[True, True, False], [True, True, True]])


def test_not_finite_for_one_model_is_dropped_for_all_and_counted():
    rewards = {"x": [1.0, 2, np.nan, 4, 5], "y": Reward(np.array([1.0, 2, 3, np.inf, 5]), "utility")}
    pools = pools_from_rows(**ROWS, rewards=rewards)
    assert pools.dropped.not_finite == 2
    assert pools.size.tolist() == [1, 2]
    np.testing.assert_array_equal(pools.candidate, [[0, -1], [0, 2]])
    assert pools.scales == {"x": "arbitrary", "y": "utility"}


def test_a_user_whose_rows_all_go_is_gone():
    pools = pools_from_rows(**(ROWS | {"utility": [1.0, np.nan, None, 4, 5]}), rewards={"x": np.arange(5.0)})
    assert pools.user_ids == ("b",)
    assert pools.user.tolist() == [0]


def test_the_order_of_rows_changes_nothing_where_candidates_are_told_apart():
    rng = np.random.default_rng(0)
    user, query, candidate = np.repeat(np.arange(12) % 5, 6), np.repeat(np.arange(12), 6), np.tile(np.arange(6), 12)
    utility, reward = rng.standard_normal(72), rng.standard_normal(72)
    shuffled = rng.permutation(72)
    one = pools_from_rows(user, query, utility, {"x": reward}, candidate=candidate)
    two = pools_from_rows(
        user[shuffled], query[shuffled], utility[shuffled], {"x": reward[shuffled]}, candidate=candidate[shuffled]
    )
    assert one.query_ids == two.query_ids
    for name in ("user", "size", "utility", "candidate"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.rewards["x"], two.rewards["x"])


@pytest.mark.parametrize(
    "ids",
    [["q10", "q9", "q10"], np.array(["q10", "q9", "q10"]), pa.array(["q10", "q9", "q10"]),
     pa.chunked_array([["q10", "q9"], ["q10"]]), pa.array(["q10", "q9", "q10"]).dictionary_encode()],
)  # fmt: skip
def test_ids_of_every_kind(ids):
    pools = pools_from_rows([7, 7, 7], ids, [1.0, 2, 3], {"x": [1.0, 2, 3]})
    assert pools.query_ids == ("q10", "q9")
    assert pools.size.tolist() == [2, 1]


def test_numbers_sort_by_value():
    assert pools_from_rows([10, 9, 10], [1, 1, 1], [1, 2, 3], {"x": [1, 2, 3]}).user_ids == ("9", "10")


def test_smaller_pools_are_left_out_and_counted():
    pools = pools_from_rows(**ROWS, rewards={"x": np.arange(5.0)}).with_at_least(3)
    assert len(pools) == 1
    assert pools.dropped.too_few_candidates == 1
    assert pools.user_ids == ("b",)
    assert pools.user.tolist() == [0]
    assert pools.with_at_least(2) is pools


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": [], "query": [], "utility": [], "rewards": {"x": []}}, "empty table"),
        ({"user": ["a"]}, "user: found 1 rows; expected 5"),
        ({"text": ["a"]}, "text: found 1 rows; expected 5"),
        ({"query": [1, 1, None, 1, 1]}, "query: found no id in row 3"),
        ({"query": [1, 1, "x", 1, 1]}, "query: found .*expected ids that are all strings"),
        ({"utility": ["high", 2, 3, 4, 5]}, "utility: found .*expected numbers"),
        ({"utility": np.ones((5, 1))}, "utility: found 2 dimensions"),
        ({"utility": [np.nan] * 5}, "none with a finite utility"),
        ({"rewards": {}}, "no reward model"),
        ({"rewards": {"x": [1.0]}}, "rewards 'x': found 1 rows"),
        ({"candidate": [0, 0, 1, 0, 1]}, "candidate 0 twice in the query of row 4"),
        ({"candidate": [0.5, 0, 1, 0, 1]}, "one integer a row"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(InputError, match=message):
        pools_from_rows(**({**ROWS, "rewards": {"x": [1.0, 2, 3, 4, 5]}} | change))
