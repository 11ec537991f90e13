"""What others said of candidates: the draw, its table, and a split that tells it to predictions alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.labels import Labels, Preferred, Rated
from bestfor.data.others import OtherRatings, code_others, others_of, others_table, read_others, reveal
from bestfor.data.ratings import Ratings
from bestfor.data.schema import write
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.errors import InputError

USERS, TEXTS = 9, 24


def ratings_of(seed=0, order=None):
    draw = np.random.default_rng(seed)
    rows = [(f"u{user}", f"text {text}") for user in range(USERS) for text in range(TEXTS) if draw.random() < 0.8]
    values = draw.normal(size=len(rows))
    chosen = np.arange(len(rows)) if order is None else np.random.default_rng(order).permutation(len(rows))
    columns = {
        "user": [rows[at][0] for at in chosen],
        "text": [rows[at][1] for at in chosen],
        "query": [""] * len(rows),
        "rating": values[chosen],
    }
    return Ratings.build(pa.table(columns), name="t", source="t", signature="s")


def told(others, test):
    """Who rated each test candidate for whom, and how."""
    return {
        (test.users[test.user[row]], test.texts[test.text[row]], others.users[who]): value
        for row, who, value in zip(others.row.tolist(), others.user.tolist(), others.utility.tolist(), strict=True)
    }


def split(k, ratings=None, **how):
    config = SplitConfig("rating", how.pop("fold", 0), 4, 2, k, **how)
    return split_ratings(ratings_of() if ratings is None else ratings, config)


def test_a_split_by_rating_tells_other_peoples_ratings_of_test_texts_to_predictions_alone():
    ratings, data = ratings_of(), split(3)
    known = dict(
        zip(
            ((ratings.users[user], ratings.texts[text]) for user, text in zip(ratings.user, ratings.text, strict=True)),
            ratings.rating.tolist(),
            strict=True,
        )
    )
    test, fit = data.coded.test, data.coded.fit
    found = told(test.others, test)
    assert found
    for (asks, text, rater), value in found.items():
        assert asks != rater
        assert known[rater, text] == value
    raters = {text: sum(key[1] == text for key in known) - 1 for text in test.texts}
    wanted = [min(3, raters[test.texts[code]]) for code in test.text.tolist()]
    np.testing.assert_array_equal(test.others.count, wanted)
    assert fit.others is None
    plain = split_ratings(ratings, SplitConfig("text", 0, 4, 2)).coded
    assert fit.to_arrow().equals(plain.fit.to_arrow())
    assert test.to_arrow().equals(plain.test.to_arrow())
    assert np.isnan(test.utility).all()
    assert any("predictions may look at 3 other people's ratings" in note for note in data.notes)


def test_the_draw_is_keyed_by_seed_user_and_text_and_fewer_are_the_beginning_of_more():
    few, many = split(2).coded.test, split(6).coded.test
    for name in ("ends", "user", "utility"):
        np.testing.assert_array_equal(getattr(many.others.first(2), name), getattr(few.others, name))
    shuffled = split(6, ratings_of(order=5)).coded.test
    assert told(shuffled.others, shuffled) == told(many.others, many)
    assert told(split(2, seed=1).coded.test.others, few) != told(few.others, few)
    assert len({split(2).signature, split(3).signature, split(2, seed=1).signature}) == 3
    assert not split(0).coded.test.others.count.any()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40), st.integers(0, 4))
def test_nobodys_own_rating_is_drawn_and_none_twice(pairs, k):
    user, text = np.array(pairs, dtype=np.int64).T
    names = [f"u{code}" for code in range(6)], [f"t{code}" for code in range(4)]
    ends, places = reveal((user, text), names, k, 0, np.arange(len(user)))
    for row in range(len(user)):
        drawn = places[ends[row] : ends[row + 1]]
        assert len(drawn) == len(set(drawn.tolist())) <= k
        assert (text[drawn] == text[row]).all()
        assert (user[drawn] != user[row]).all()


def test_the_table_of_others_gives_them_back(tmp_path):
    data = split(3)
    write(data.others, tmp_path / "others.parquet")
    test = data.coded.test
    query = [test.queries[code] for code in test.query.tolist()]
    found = others_of(read_others(tmp_path / "others.parquet"), query, test.candidate)
    assert told(found, test) == told(test.others, test)
    assert others_table(found, query, test.candidate).equals(data.others)
    assert read_others(tmp_path / "nothing.parquet") is None
    (tmp_path / "others.parquet").write_bytes(b"torn")
    with pytest.raises(InputError, match="unreadable"):
        read_others(tmp_path / "others.parquet")


def test_rows_and_their_others_are_taken_together():
    test = split(3).coded.test
    rows = np.array([5, 2, 2])
    some = test.take(rows).others
    assert some.count.tolist() == test.others.count[rows].tolist()
    expected = np.concatenate([test.others.utility[test.others.row == row] for row in rows])
    np.testing.assert_array_equal(some.utility, expected)


def test_labels_of_others_are_coded_by_prompt_and_text():
    labels = {
        "v": Labels((Rated("p", "a", 1.0), Rated("q", "a", 9.0), Rated("p", "other", 9.0))),
        "w": Labels((Rated("p", "b", 0.5, 0.3), Rated("p", "a", 0.0))),
    }
    found = code_others([("u", "p", ["b", "a", "c"])], [labels])
    assert found.users == ("v", "w")
    assert found.count.tolist() == [1, 2, 0]
    assert found.utility.tolist() == [0.5, 1.0, 0.0]
    assert found.weight.tolist() == [0.3, 1.0, 1.0]
    assert isinstance(found.take(np.array([2])), OtherRatings)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([{"u": Labels((Rated("p", "a", 1.0),))}], "labels of 'u', who asks"),
        ([{"v": Labels((Rated("p", "a", float("nan")),))}], "finite utilities"),
        ([{"v": Labels((Rated("p", "a", 1.0, 0.0),))}], "weights above 0"),
        ([{"v": Labels((), (Preferred("p", "b", "a"),))}], "labels of 'v'.*a preference between two of the candidates"),
        ([], "0 mappings for 1 requests"),
    ],
)
def test_labels_that_cannot_be_others_are_refused(others, message):
    with pytest.raises(InputError, match=message):
        code_others([("u", "p", ["a", "b"])], others)


def test_preferences_of_other_texts_are_left_out_as_ratings_are():
    labels = Labels((Rated("p", "a", 1.0),), (Preferred("p", "a", "other"), Preferred("q", "a", "b")))
    assert code_others([("u", "p", ["a", "b"])], [{"v": labels}]).utility.tolist() == [1.0]
