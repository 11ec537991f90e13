import numpy as np
from hypothesis import given
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
