from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.chunks import chunks_of


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_portions_keep_the_order_and_close_when_full(items, least):
    found = chunks_of(items, lambda item: item, least)
    assert [item for part in found for item in part] == items
    assert all(found)
    for part in found[:-1]:
        assert sum(part[:-1]) < least <= sum(part)
