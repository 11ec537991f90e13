import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.text import collapse_spaces, hash_strings, join_hashes, nfc


def test_composed_characters_are_one():
    assert nfc("cafe\u0301") == nfc("caf\u00e9") == "caf\u00e9"


@given(st.text(), st.text())
def test_spaces_do_not_tell_texts_apart(left, right):
    assert collapse_spaces(f" {left}\n\t{right}  ") == collapse_spaces(f"{left} {right}")
    assert collapse_spaces(collapse_spaces(left)) == collapse_spaces(left)


def one_by_one(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


@pytest.mark.parametrize(
    ("text", "value"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)]
)
def test_published_values(text, value):
    assert hash_strings(pa.array([text])).tolist() == [value]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=6), st.integers(0, 2))
def test_equals_the_loop_over_bytes_for_slices_too(texts, skip):
    strings = pa.array(texts, pa.string()).slice(min(skip, len(texts)))
    assert hash_strings(strings).tolist() == [one_by_one(text) for text in texts[skip:]]


def test_a_few_long_strings_among_many_short_ones():
    texts = [f"{code}" for code in range(40)] + ["ü" * 300, "b" * 299, "c" * 40, ""] + ["d" * 50] * 17
    assert hash_strings(pa.array(texts)).tolist() == [one_by_one(text) for text in texts]


def test_pairs_are_told_apart_in_order():
    codes = hash_strings(pa.array([str(code) for code in range(300)]))
    first, second = np.repeat(codes, 300), np.tile(codes, 300)
    assert len(np.unique(join_hashes(first, second))) == 300**2
