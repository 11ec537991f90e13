import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.metrics.score_tokens import read_number, read_score


def choice(text, *tokens):
    """A chat choice; each token is its text and the probabilities of the alternatives there."""
    content = [
        {
            "token": token,
            "logprob": math.log(alternatives[token]),
            "top_logprobs": [{"token": one, "logprob": math.log(p)} for one, p in alternatives.items()],
        }
        for token, alternatives in tokens
    ]
    return {"message": {"content": text}, "logprobs": {"content": content} if tokens else None}


def test_the_expectation_over_score_tokens():
    score = read_score(choice("4", ("4", {"4": 0.5, "5": 0.2, "3": 0.1, "Hm": 0.15})), 1, 5)
    assert score.value == pytest.approx((4 * 0.5 + 5 * 0.2 + 3 * 0.1) / 0.8)
    assert score.missing == pytest.approx(0.2)


def test_spellings_of_a_score_are_added_and_others_are_no_score():
    alternatives = {" 4": 0.3, "4": 0.2, "0": 0.1, "6": 0.1, "**": 0.1, "-4": 0.05, "4.5": 0.05, "四": 0.05}
    score = read_score(choice(" 4", (" 4", alternatives)), 1, 5)
    assert score.value == 4
    assert score.missing == pytest.approx(0.5)


def test_the_place_is_where_the_number_begins():
    score = read_score(
        choice(
            "Score: 2/5",
            ("Score", {"Score": 0.9, "1": 0.1}),
            (":", {":": 1.0}),
            (" 2", {" 2": 0.75, " 3": 0.25}),
            ("/", {"/": 1.0}),
            ("5", {"5": 1.0}),
        ),
        1,
        5,
    )
    assert score.value == pytest.approx(2.25)


@pytest.mark.parametrize(
    ("written", "tokens", "expected", "missing"),
    [
        # One token for ten: 1 is 1.
        ("10", [("10", {"10": 0.5, "1": 0.2, "9": 0.3})], (10 * 0.5 + 0.2 + 9 * 0.3) / 1.0, 0.0),
        # Single digits: what follows 1 says how much of it is 10.
        ("10", [("1", {"1": 0.8, "9": 0.2}), ("0", {"0": 0.75, "<end>": 0.25})], (10 * 0.6 + 0.2 + 9 * 0.2) / 1.0, 0.0),
        (
            "1",
            [("1", {"1": 0.8, "9": 0.2}), ("<end>", {"0": 0.25, "<end>": 0.75})],
            (10 * 0.2 + 0.6 + 9 * 0.2) / 1.0,
            0.0,
        ),
        # Another digit was written: whether 1 would have become 10 is unknown.
        ("9", [("9", {"9": 0.8, "1": 0.2}), ("<end>", {"<end>": 1.0})], 9.0, 0.2),
    ],
)
def test_a_scale_of_ten(written, tokens, expected, missing):
    score = read_score(choice(written, *tokens), 1, 10)
    assert score.value == pytest.approx(expected)
    assert score.missing == pytest.approx(missing, abs=1e-12)


def test_without_probabilities_the_number_is_read():
    assert read_score(choice("4"), 1, 5) == read_score({"message": {"content": " 4 "}}, 1, 5)
    score = read_score(choice("4"), 1, 5)
    assert (score.value, score.missing) == (4.0, None)
    assert read_score(choice("4.5", ("4", {"4": 1.0}), (".5", {".5": 1.0})), 1, 5).value == 4.5


@pytest.mark.parametrize(
    "text",
    [
        "4",
        " 4.",
        "**4**",
        "Score: 4",
        "score is 4",
        "The final score is 4",
        "4/5",
        "4 out of 5",
        "Rating: 4 / 5!",
        "I would say 4",
        "4\n",
        '"4"',
        "4, for its manner",
    ],
)
def test_texts_that_state_a_score(text):
    assert read_number(text, 1, 5)[0] == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "four",
        "-4",
        "0",
        "6",
        "45",
        "4/10",
        "between 3 and 4",
        "on a scale from 1 to 5, 4",
        "v4",
        "4th",
        "1,000",
        "4-5",
        "<think>",
        "nan",
        "١",
    ],
)
def test_texts_that_state_none(text):
    assert read_number(text, 1, 5) is None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"message": None},
        {"message": {"content": None}},
        {"message": {"content": ["4"]}},
        {"message": {"content": "no"}, "logprobs": {"content": [{"token": "4", "logprob": 0.0, "top_logprobs": []}]}},
    ],
)
def test_what_is_no_answer(answer):
    assert read_score(answer, 1, 5) is None


@pytest.mark.parametrize(
    "logprobs",
    [
        {},
        {"content": []},
        {"content": [None]},
        {"content": [{"token": "4"}]},
        {"content": [{"token": "x", "logprob": 0.0}]},
        {"content": [{"token": "4", "logprob": "high"}]},
        {"tokens": ["4"]},
    ],
)
def test_probabilities_that_cannot_be_used(logprobs):
    score = read_score({"message": {"content": "4"}, "logprobs": logprobs}, 1, 5)
    assert (score.value, score.missing) == (4.0, None)


@given(st.text(max_size=60), st.integers(0, 5), st.integers(1, 20))
def test_a_score_is_always_within_the_scale(text, low, width):
    found = read_number(text, low, low + width)
    assert found is None or (low <= found[0] <= low + width and text[found[1]] in "-0123456789")


@given(
    st.dictionaries(st.sampled_from([*map(str, range(12)), " 3", "x", ""]), st.floats(1e-6, 1.0), min_size=1),
    st.integers(1, 10),
)
def test_expectations_are_within_the_scale(alternatives, chosen):
    alternatives = {one: p / sum(alternatives.values()) for one, p in alternatives.items()} | {str(chosen): 0.5}
    score = read_score(choice(str(chosen), (str(chosen), alternatives)), 1, 10)
    assert 1 <= score.value <= 10
    assert score.missing is None or 0 <= score.missing <= 1
