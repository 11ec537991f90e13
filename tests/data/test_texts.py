from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.text import composed, plain


def test_composed_characters_are_one():
    assert composed("cafe\u0301") == composed("caf\u00e9") == "caf\u00e9"


@given(st.text(), st.text())
def test_spaces_do_not_tell_texts_apart(left, right):
    assert plain(f" {left}\n\t{right}  ") == plain(f"{left} {right}")
    assert plain(plain(left)) == plain(left)
