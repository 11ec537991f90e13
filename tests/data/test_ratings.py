"""Which texts are the same, and what stands for several ratings of one text."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.ratings import Ratings, ranks_to_ratings, text_id
from bestfor.data.text import plain_form
from bestfor.errors import InputError


def build(columns, **options):
    return Ratings.build(pa.table(columns), name="t", source="t", signature="s", **options)


SPELLINGS = [
    *(
        "Caf\u00e9 am Fluss",
        "Cafe\u0301 am Fluss",
        " Caf\u00e9 am Fluss",
        "Caf\u00e9 am Fluss\r\n",
        "Caf\u00e9\u00a0am  Fluss",
    ),
    *("Caf\u00e9 am\tFluss ", "\ufeffCaf\u00e9 am Fluss", "Caf\u00e9 am\u3000Fluss", "Caf\u00e9 am\u200b Fluss"),
]


def test_spellings_of_one_text_are_one_text():
    users = [f"u{i}" for i in range(len(SPELLINGS))]
    for order in (SPELLINGS, SPELLINGS[::-1]):
        ratings = build({"user": users, "text": order, "rating": np.arange(len(users), dtype=float)})
        assert len(ratings.texts) == 1
        assert ratings.text_ids == (text_id("Caf\u00e9 am Fluss"),)
        assert ratings.texts[0] in ("Caf\u00e9 am Fluss", "Cafe\u0301 am Fluss")
        # NFC was one text before and needs no word
        (note,) = ratings.notes
        assert note.startswith(f"{len(SPELLINGS) - 2} texts differ from another in white space")


@pytest.mark.parametrize("pair", [("a b", "ab"), ("A", "a"), ("a.", "a"), ("fi", "\ufb01"), ("x\u200dy", "xy")])
def test_other_texts_stay_apart(pair):
    ratings = build({"user": ["u", "u"], "text": list(pair), "rating": [1.0, 2.0]})
    assert len(ratings.texts) == 2
    assert ratings.notes == ()


@pytest.mark.parametrize(
    "spelling",
    [
        "Cats &amp; \u201cdogs\u201d",
        "Cats &amp;amp; &ldquo;dogs&rdquo;",
        "Cats &#38; &#x201C;dogs&#8221;&#x200b;",
        "Cats&nbsp;&amp; &ldquo;dogs&rdquo; ",
    ],
)
def test_characters_that_html_spells_are_these_characters(spelling):
    plain = "Cats & \u201cdogs\u201d"
    ratings = build({"user": ["u", "v"], "text": [spelling, plain], "rating": [1.0, 2.0]})
    assert ratings.texts == (plain,)
    assert ratings.text_ids == (text_id(plain),)
    assert "HTML" in ratings.notes[0]
    asked = build({"user": ["u"] * 4, "query": [spelling, plain, "a", "b"], "text": list("wxyz"), "rating": np.ones(4)})
    folds = dict(zip(asked.queries, asked.query_fold.tolist(), strict=True))
    assert folds[spelling] == folds[plain]


@pytest.mark.parametrize("text", ["a?x=1&copy=2", "AT&T; and", "R&D", "&amp", "&;", "&#;", "& amp;"])
def test_an_ampersand_is_no_reference_by_itself(text):
    assert plain_form(text) == text


@given(st.text(max_size=20) | st.text("&amp;#x3lt 8\u200b", max_size=20))
def test_the_plain_form_is_one_of_many(text):
    plain = plain_form(text)
    assert plain_form(plain) == plain
    for other in (f" {text}\r\n", unicodedata.normalize("NFD", text), text.replace(" ", "\u00a0 ")):
        assert plain_form(other) == plain


def test_one_id_with_two_texts_is_said():
    ratings = build(
        {"user": ["u", "v", "w"], "text": ["a", "b", "a "], "text_id": ["1", "1", "2"], "rating": [1.0, 2, 3]}
    )
    assert ratings.texts == ("a", "a ")
    assert ratings.notes == ("1 text ids stand for more than one text: the first in the table is taken",)
    same = build({"user": ["u", "v"], "text": ["a", " a"], "text_id": ["1", "1"], "rating": [1.0, 2.0]})
    assert same.notes == ()


ROWS = {"user": ["u", "v", "u", "u"], "text": ["a", "a", "a ", "b"], "rating": [1.0, 5.0, 4.0, 2.0]}


def ratings_by(ratings):
    rows = zip(ratings.user, ratings.text, ratings.rating, strict=True)
    return {(ratings.users[u], ratings.texts[t]): r for u, t, r in rows}


def test_two_ratings_of_a_text_are_an_error_that_names_what_helps():
    with pytest.raises(
        InputError, match=r'user \'u\': found two ratings of the text \'a\'.*duplicates = "last" or "mean"'
    ):
        build(ROWS)


@pytest.mark.parametrize(
    ("duplicates", "timestamp", "kept"),
    [
        ("last", None, 4.0),
        ("mean", None, 2.5),
        ("last", [9.0, 9.0, 3.0, 1.0], 1.0),
        ("last", [3.0, 1.0, 3.0, 1.0], 4.0),
    ],
)
def test_of_several_ratings_one_stands(duplicates, timestamp, kept):
    columns = ROWS if timestamp is None else ROWS | {"timestamp": timestamp}
    ratings = build(columns, duplicates=duplicates)
    assert ratings_by(ratings) == {("u", "a"): kept, ("v", "a"): 5.0, ("u", "b"): 2.0}
    assert ratings.notes[-1] == f"1 ratings repeat a user's rating of a text for a query: the {duplicates} counts"


@given(st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=30))
def test_last_and_mean_are_those_of_a_dictionary(rows):
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("user", "text"))}
    columns["rating"] = [float(row[2]) for row in rows]
    every = {}
    for user, text, rating in rows:
        every.setdefault((user, text), []).append(rating)
    last, mean = (ratings_by(build(columns, duplicates=one)) for one in ("last", "mean"))
    assert last == {key: values[-1] for key, values in every.items()}
    assert mean == pytest.approx({key: np.mean(values) for key, values in every.items()})


def test_several_prompts_may_share_a_text_and_a_user():
    columns = {"user": ["u", "u"], "query": ["p", "q"], "text": ["a", "a"], "rating": [1.0, 2.0]}
    assert len(build(columns).rating) == 2


@given(st.lists(st.tuples(st.sampled_from("uv"), st.sampled_from("pq"), st.integers(1, 6)), min_size=1, max_size=25))
def test_a_rank_becomes_the_share_of_others_that_it_beats(rows):
    users, queries, ranks = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"user": users, "query": queries, "rating": np.array(ranks, dtype=float)})
    found = ranks_to_ratings(table)["rating"].to_numpy()
    for at, (user, query, rank) in enumerate(rows):
        others = [one for place, (u, q, one) in enumerate(rows) if (u, q) == (user, query) and place != at]
        beaten = sum(1.0 if other > rank else 0.5 if other == rank else 0.0 for other in others)
        assert found[at] == pytest.approx(beaten / len(others) if others else 0.5)


def test_ranks_without_queries_are_one_ranking_a_user():
    table = pa.table({"user": ["u", "u", "v", "u"], "rating": [2.0, 1.0, 9.0, 2.0]})
    assert ranks_to_ratings(table)["rating"].to_pylist() == [0.25, 1.0, 0.5, 0.25]
