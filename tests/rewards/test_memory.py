"""What requests ask for again: made once, kept as long as it may be, and never another's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bestfor.rewards.auto.members import as_nobody
from bestfor.rewards.memory import Recent, held, once, same_rows
from bestfor.testing.rewards import taste_examples


def test_the_same_rows_are_made_once_within_the_outermost_context():
    rows, made = taste_examples(users=2, queries=1, candidates=3), []

    def make():
        made.append(len(made))
        return made[-1]

    owner = object()
    assert [once("a", owner, rows, make) for _ in range(2)] == [0, 1]
    with same_rows():
        assert once("a", owner, rows, make) == 2
        with same_rows():
            assert once("a", owner, as_nobody(rows), make) == 2
        assert once("a", owner, rows, make) == 2
        assert once("b", owner, rows, make) == 3
        assert once("a", object(), rows, make) == 4
        assert once("a", owner, rows.take(np.arange(len(rows))), make) == 5
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(once, "a", owner, rows, make).result() == 6
    assert once("a", owner, rows, make) == 7


def test_recent_values_are_kept_up_to_their_bytes():
    recent, made = Recent(held, limit=3 * 8), []

    def get(key, size=1):
        return recent.get(key, lambda: made.append(key) or np.full(size, key))[0]

    assert [get(1), get(2), get(3), get(1)] == [1, 2, 3, 1]
    assert made == [1, 2, 3]
    assert [get(4), get(1), get(2)] == [4, 1, 2]
    assert made == [1, 2, 3, 4, 2]
    assert get(9, size=4) == 9
    assert [get(2), get(9, size=4)] == [2, 9]
    assert made == [1, 2, 3, 4, 2, 9, 9]
