import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.rewards.features import ANSWER, STYLE, answer_features, style_features


def test_style_of_a_known_text():
    found = dict(zip(STYLE, style_features(["Why NOT: 42, red red cats? Go!"])[0], strict=True))
    assert found["log_characters"] == np.log1p(30)
    assert found["log_words"] == np.log1p(7)
    assert found["word_length"] == 20 / 7
    assert found["capitals"] == 5 / 30
    assert found["digits"] == 2 / 30
    assert found["punctuation"] == 4 / 30
    assert found["log_sentences"] == np.log1p(2)
    assert (found["question"], found["exclamation"], found["colon"], found["comma"]) == (1, 1, 1, 1)
    assert found["distinct_words"] == 6 / 7
    assert found["short_words"] == 6 / 7


def test_answer_to_a_known_input():
    row = answer_features(["red cats sleep"], ["where do red cats sleep"], np.array([0.25]))[0]
    found = dict(zip(ANSWER, row, strict=True))
    assert found["nearness"] == 0.25
    assert found["words_from_input"] == 1.0
    assert found["input_covered"] == 3 / 5
    assert found["pairs_from_input"] == 1.0
    assert found["log_length_ratio"] == np.log1p(14) - np.log1p(23)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_has_finite_features(texts):
    assert np.all(np.isfinite(style_features(texts)))
    assert np.all(np.isfinite(answer_features(texts, texts[::-1], np.zeros(len(texts)))))


def plainly(text):
    """The features as their names say, character by character and word by word."""
    words = re.findall(r"\w+", text)
    characters, count = max(len(text), 1), max(len(words), 1)
    return [
        np.log1p(len(text)),
        np.log1p(len(words)),
        sum(len(word) for word in words) / count,
        sum(mark.isupper() for mark in text) / characters,
        sum(mark.isdigit() for mark in text) / characters,
        sum(not (mark.isalnum() or mark.isspace()) for mark in text) / characters,
        np.log1p(len(re.findall(r"[.!?]+(?:\s|$)", text))),
        *(float(mark in text) for mark in "?!:,"),
        len({word.lower() for word in words}) / count,
        sum(len(word) <= 3 for word in words) / count,
    ]


MARKED = st.text(
    st.sampled_from("aAbZ09_ .!?:,'\n\t\x1c\x85\xa0\u2028\u0130\u03a3\u03c3\xdf\xb2\u0663\u4e00"), max_size=60
)


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.text(max_size=60), MARKED, st.text(st.characters(codec="ascii"), max_size=90)), max_size=5)
)
def test_tables_of_bytes_count_what_characters_do(texts):
    assert style_features(texts).tolist() == [plainly(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", ".", "...", "a. b.\n", "a.\x1cb", "x?!", "x?! y", "a_b A_b", "\x00\x7f", "Wow.No. "]
)
def test_marks_at_the_ends_count_as_the_pattern_says(text):
    assert style_features([text]).tolist() == [plainly(text)]
