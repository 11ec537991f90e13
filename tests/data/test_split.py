import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.ratings import Ratings, fold_of, text_id
from bestfor.data.split import SplitConfig, split_ratings
from bestfor.data.text import plain_form
from bestfor.errors import InputError


def ratings_of(rows):
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("user", "query", "text"))}
    columns["rating"] = [float(len(row[2])) for row in rows]
    columns["timestamp"] = [float(int(hashlib.sha256(row[2].encode()).hexdigest()[:6], 16)) for row in rows]
    return Ratings.build(pa.table(columns), name="t", source="t", signature="s")


names = st.text("abcé ", min_size=1, max_size=3)
rows = st.lists(
    st.tuples(names, names, names), min_size=1, max_size=60, unique_by=lambda r: (r[0], r[1], text_id(r[2]))
)


@given(rows, st.sampled_from(["text", "query", "time", "user"]), st.sampled_from([0, 1, 2]))
def test_fit_and_test_never_share_a_text_or_a_query(rows, by, fold):
    try:
        data = split_ratings(ratings_of(rows), SplitConfig(by=by, fold=fold, min_fit=0, min_test=1))
    except InputError:
        return  # no text fell into this fold
    split = dict(zip(data.queries["query_id"].to_pylist(), data.queries["split"].to_pylist(), strict=True))
    assert len(split) == data.queries.num_rows
    texts = {"fit": set(), "test": set()}
    for query, identity in zip(
        data.candidates["query_id"].to_pylist(), data.candidates["text_id"].to_pylist(), strict=True
    ):
        texts[split[query]].add(identity)
    assert not texts["fit"] & texts["test"]
    inputs = {
        part: {one for one, split in zip(*(data.queries[name].to_pylist() for name in ("input", "split")), strict=True)
               if split == part}
        for part in ("fit", "test")
    }  # fmt: skip
    if by == "query":
        assert not inputs["fit"] & inputs["test"]
        assert {fold_of(text_id(plain_form(one))) for one in inputs["test"]} <= {fold}
        assert fold not in {fold_of(text_id(plain_form(one))) for one in inputs["fit"]}
    if by == "text":
        assert {fold_of(identity) for identity in texts["test"]} <= {fold}
        assert fold not in {fold_of(identity) for identity in texts["fit"]}


@given(rows, st.randoms())
def test_the_order_of_rows_changes_nothing(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    config = SplitConfig(by="text", fold=0, min_fit=0, min_test=1)
    try:
        first = split_ratings(ratings_of(rows), config)
    except InputError:
        with pytest.raises(InputError):
            split_ratings(ratings_of(shuffled), config)
        return
    second = split_ratings(ratings_of(shuffled), config)
    assert first.queries.equals(second.queries)
    assert first.utilities.equals(second.utilities)


def test_fold_is_the_sha256_of_the_id_modulo_three():
    assert [fold_of(str(i)) for i in range(6)] == [
        int(hashlib.sha256(str(i).encode()).hexdigest(), 16) % 3 for i in range(6)
    ]


def test_equal_texts_of_other_unicode_form_are_one_text():
    ratings = ratings_of([("u", "q", "caf\u00e9"), ("v", "q", "cafe\u0301")])
    assert len(ratings.texts) == 1
    with pytest.raises(InputError, match="two ratings of the text"):
        ratings_of([("u", "q", "caf\u00e9"), ("u", "q", "cafe\u0301")])


def test_users_with_too_little_are_not_tested_but_learned_from():
    rows = [("full", "", f"text {i}") for i in range(30)] + [("small", "", f"text {i}") for i in range(3)]
    data = split_ratings(ratings_of(rows), SplitConfig(min_fit=5, min_test=5))
    kept = set(zip(data.queries["user_id"].to_pylist(), data.queries["split"].to_pylist(), strict=True))
    assert {("full", "fit"), ("full", "test"), ("small", "fit")} <= kept
    assert ("small", "test") not in kept
    fit, test = (data.queries["split"].to_pylist().count(part) for part in ("fit", "test"))
    assert (fit, test) == (2, 1)
    sizes = {part: int(data.candidates["query_id"].to_pylist().count(f"full/{part}-0")) for part in ("fit", "test")}
    most = f"the most here are {sizes['fit']} fit ratings and a test pool of {sizes['test']}"
    with pytest.raises(
        InputError, match=rf"\(lower min_fit, min_test: {most}; with a test pool of 5 at most {sizes['fit']}"
    ):
        split_ratings(ratings_of(rows), SplitConfig(min_fit=100, min_test=5))
    with pytest.raises(InputError, match=rf"\(lower min_fit, min_test: {most}\)"):
        split_ratings(ratings_of(rows), SplitConfig(min_fit=1, min_test=100))
    fold = fold_of("full")
    unseen = sum(fold_of(text_id(f"text {i}")) == fold for i in range(30))
    with pytest.raises(InputError, match=rf"the most here are 0 fit ratings and a test pool of {unseen}\)"):
        split_ratings(ratings_of(rows), SplitConfig(by="user", fold=fold, min_test=100))


def test_a_table_without_times_cannot_be_split_by_time():
    ratings = Ratings.build(
        pa.table({"user": ["u"], "text": ["t"], "rating": [1.0]}), name="t", source="t.csv", signature="s"
    )
    with pytest.raises(InputError, match="timestamp"):
        split_ratings(ratings, SplitConfig(by="time"))


def test_unrated_rows_are_counted():
    table = pa.table({"user": ["u", "u"], "text": ["a", "b"], "rating": [1.0, np.nan]})
    ratings = Ratings.build(table, name="t", source="t", signature="s")
    assert len(ratings.rating) == 1
    assert ratings.notes == ("1 rows without a rating were left out",)


def prompted(prompts=30, answers=4, users=("ann", "ben")):
    """Answers of their own for each prompt."""
    return [
        (user, f"prompt {p}", f"answer {a} to {p}") for user in users for p in range(prompts) for a in range(answers)
    ]


@pytest.mark.parametrize("by", ["query", "time", "user"])
def test_a_prompts_answers_stay_together(by):
    ratings = ratings_of(prompted())
    assert ratings.owned
    fold = ratings.user_fold[0] if by == "user" else 0
    data = split_ratings(ratings, SplitConfig(by=by, fold=fold, min_fit=4, min_test=4))
    sizes = data.candidates["query_id"].value_counts().to_pylist()
    assert {row["counts"] for row in sizes} == {4}
    noted = any("keeps each prompt's answers together" in note for note in data.notes)
    assert noted == (by != "query")


def test_a_split_by_text_of_prompts_with_answers_says_so():
    data = split_ratings(ratings_of(prompted()), SplitConfig(by="text", min_fit=4, min_test=1))
    assert any('by = "query" under [split] keeps them together' in note for note in data.notes)
    shared = [(user, f"prompt {p}", f"text {a}") for user in ("ann", "ben") for p in range(3) for a in range(30)]
    ratings = ratings_of(shared)
    assert not ratings.owned
    data = split_ratings(ratings, SplitConfig(by="text", min_fit=4, min_test=4))
    assert not any("under [split]" in note for note in data.notes)


def test_an_answer_that_two_prompts_share_is_learned_from_at_one_of_them_only():
    rows = [*prompted(), *((user, f"prompt {p}", "yes") for user in ("ann", "ben") for p in range(30))]
    data = split_ratings(ratings_of(rows), SplitConfig(by="query", min_fit=4, min_test=4))
    fit = [name for name in data.candidates["query_id"].to_pylist() if "/fit-" in name]
    texts = dict(zip(data.candidates["query_id"].to_pylist(), data.candidates["text"].to_pylist(), strict=True))
    assert "yes" not in {texts[name] for name in fit}
    assert any(
        note.endswith("fit ratings of texts that also answer a test prompt were left out") for note in data.notes
    )


def test_one_prompt_cannot_be_split_by_query():
    with pytest.raises(InputError, match="one prompt only; expected more, for a split by query"):
        split_ratings(ratings_of([("u", "q", f"text {i}") for i in range(30)]), SplitConfig(by="query"))


def test_one_answer_a_prompt_is_said_to_give_no_curve():
    rows = [("u", f"q{i}", f"text {i}") for i in range(60)]
    with pytest.raises(InputError, match="one answer a prompt is nothing to choose from, so it gives no curve"):
        split_ratings(ratings_of(rows), SplitConfig(by="query", min_fit=1, min_test=2))


def test_equal_texts_under_several_ids_are_told_where_they_leak():
    table = pa.table({"user": ["u"] * 60, "text": [f"text {i // 2}" for i in range(60)], "rating": np.arange(60.0),
                      "text_id": [str(i) for i in range(60)]})  # fmt: skip
    ratings = Ratings.build(table, name="t", source="t", signature="s")
    data = split_ratings(ratings, SplitConfig(min_fit=1, min_test=1))
    texts = {"fit": set(), "test": set()}
    for name, text in zip(data.candidates["query_id"].to_pylist(), data.candidates["text"].to_pylist(), strict=True):
        texts["fit" if "/fit-" in name else "test"].add(text)
    both = len(texts["fit"] & texts["test"])
    assert both
    assert any(note.startswith(f"{both} texts stand in the fit part and in the test part") for note in data.notes)
