"""What was used last is kept, up to a number of entries and of bytes."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from bestfor.serving.cache import OVERHEAD, RecentlyUsed, bytes_of


def test_what_was_not_used_for_longest_goes_first():
    kept = RecentlyUsed(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert kept.keys() == ["a", "c"]
    assert kept.values() == [1, 3]
    assert kept.get("b") is None
    kept.drop(lambda key, value: value == 3)
    assert kept.keys() == ["a"]
    assert kept.bytes == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40))), st.integers(1, 4), st.integers(1, 60))
def test_entries_and_bytes_stay_below_their_limits(puts, size, most):
    """Against a list that is searched from its end."""
    kept, used = RecentlyUsed(size, most, int), []
    for key, weight in puts:
        kept.put(key, weight)
        used = [one for one in used if one[0] != key] + [(key, weight)]
        while len(used) > size or (len(used) > 1 and sum(weight for _, weight in used) > most):
            used.pop(0)
        assert list(zip(kept.keys(), kept.values(), strict=True)) == used
        assert kept.bytes == sum(weight for _, weight in used)


@dataclass(frozen=True)
class Part:
    rows: np.ndarray
    model: np.ndarray
    texts: tuple


def test_arrays_and_texts_are_counted_and_what_is_shared_is_not():
    rows, shared = np.zeros(100), np.zeros(10_000)
    assert bytes_of(Part(rows, shared, ())) == OVERHEAD + 800
    assert bytes_of(Part(rows[:1], shared, ())) == OVERHEAD + 800  # a view keeps the whole
    assert bytes_of(Part(rows, shared, ("a" * 500,))) > OVERHEAD + 1300
    assert bytes_of({"a": [rows, rows]}) == OVERHEAD + 1600
    spread = sparse.csr_array(np.eye(8))
    each = spread.data.nbytes + spread.indices.nbytes + spread.indptr.nbytes
    assert bytes_of(spread) == OVERHEAD + each
