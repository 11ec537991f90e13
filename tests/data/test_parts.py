"""Parts of coded candidates against tables that are filtered and coded anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.split import Ratings, SplitConfig, split_ratings
from bestfor.runs.joins import build_parts

rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["", "q"]), st.integers(0, 11)),
    min_size=8,
    max_size=60,
    unique=True,
)


def ratings_of(rows):
    users, queries = ("a", "b", "c"), ("", "q")
    # Texts 0 and 1 are spelled alike under two ids, as comments of a conversation may be.
    texts = tuple("twice" if code < 2 else f"text {code}" for code in range(12))
    user, query, text = (np.array(column) for column in zip(*rows, strict=True))
    return Ratings(
        name="r",
        source="r",
        signature="s",
        users=users,
        queries=queries,
        texts=texts,
        text_ids=tuple(f"id{code}" for code in range(12)),
        user=np.searchsorted(users, user),
        query=np.searchsorted(queries, query),
        text=text,
        rating=np.arange(len(rows)) / 7,
    )


def same(one, other):
    assert one.queries == other.queries
    assert one.inputs == other.inputs
    assert one.users == other.users
    assert one.texts == other.texts
    for name in ("user", "query", "text", "candidate", "utility", "logprob"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.slow
@given(rows, st.sampled_from([0, 1, 2]))
def test_codes_of_a_split_are_those_of_its_tables(rows, fold):
    """No table of strings is read for them, and nothing differs: vocabularies, order of rows, text ids."""
    ratings = ratings_of(rows)
    if not ((ratings.text_fold == fold)[ratings.text]).any():
        return
    data = split_ratings(ratings, SplitConfig("text", fold, 0, 1))
    joined = build_parts(data.queries, data.candidates, data.utilities)
    for split in ("fit", "test"):
        same(data.coded.part(split), joined.part(split))
    assert data.coded.test_text_ids.to_pylist() == joined.test_text_ids.to_pylist()
    assert sorted(data.coded.test_sizes) == sorted(joined.test_sizes)
    same(data.coded.fit, joined.fit)


def test_parts_are_views_and_the_test_part_is_blind():
    data = split_ratings(ratings_of([(u, "", t) for u in "abc" for t in range(12)]), SplitConfig("text", 0, 0, 1))
    coded = data.coded
    for split in ("fit", "test"):
        assert np.shares_memory(coded.part(split).utility, coded.whole.utility)
    assert coded.fit is coded.fit
    assert coded.test is coded.test
    assert np.isnan(coded.test.utility).all()
    assert np.isfinite(coded.test_utility).all()
    assert coded.fit_count == len(coded.fit)


@pytest.mark.parametrize("split", ["fit", "test"])
def test_other_utilities_leave_the_rest(split):
    data = split_ratings(ratings_of([(u, "", t) for u in "abc" for t in range(12)]), SplitConfig("text", 0, 0, 1))
    other = data.coded.with_utilities(np.arange(len(data.coded.whole), dtype=float))
    assert np.diff(other.part(split).utility).tolist() == [1.0] * (len(other.part(split)) - 1)
    assert other.part(split).texts == data.coded.part(split).texts
