"""Joins against the obvious way with dictionaries."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data import schema
from bestfor.data.schema import CANDIDATES, HISTORIES, QUERIES, REWARDS, UTILITIES
from bestfor.diagnostics import Reward, Settings
from bestfor.errors import InputError
from bestfor.runs import joins
from bestfor.runs.joins import (
    Predicted,
    align_rewards,
    build_examples,
    build_history,
    build_parts,
    diagnose_parts,
    read_rewards,
    write_rewards,
)


def table(rows, schema):
    return pa.Table.from_pylist(rows, schema=schema)


def tables(sizes, draw):
    queries, candidates, utilities, rewards = [], [], [], []
    for i, (user, split, size) in enumerate(sizes):
        query = f"q{i}"
        row = {"query_id": query, "user_id": user, "input": f"ask {i}", "reference": None, "split": split}
        queries.append(row | {"timestamp": None})
        for j in range(size):
            text = f"text {(i * 7 + j) % 5}"
            row = {"query_id": query, "candidate": j, "text_id": text[-1], "text": text, "logprob": None}
            candidates.append(row | {"finish_reason": "human", "policy": "human", "seed": 0})
            utilities.append({"query_id": query, "candidate": j, "metric": "m", "utility": i + j / 100})
            rewards.append({"query_id": query, "candidate": j, "model": "r", "mean": i * j / 7, "std": None})
    for rows in (queries, candidates, utilities, rewards):
        draw.shuffle(rows)
    schemas = (QUERIES, CANDIDATES, UTILITIES, REWARDS)
    return [
        table(rows, schema) for rows, schema in zip((queries, candidates, utilities, rewards), schemas, strict=True)
    ]


sizes = st.lists(
    st.tuples(st.sampled_from(["u", "v", "w"]), st.sampled_from(["fit", "test"]), st.integers(1, 6)),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@given(sizes, st.randoms(use_true_random=False))
def test_every_candidate_meets_its_own_user_text_and_utility(sizes, draw):
    queries, candidates, utilities, rewards = tables(sizes, draw)
    for split in ("fit", "test"):
        examples = build_examples(queries, candidates, utilities, split)
        assert len(examples) == sum(size for _, name, size in sizes if name == split)
        for row in range(len(examples)):
            i, j = int(examples.queries[examples.query[row]][1:]), int(examples.candidate[row])
            assert examples.users[examples.user[row]] == sizes[i][0]
            assert examples.texts[examples.text[row]] == f"text {(i * 7 + j) % 5}"
            assert examples.inputs[examples.query[row]] == f"ask {i}"
            assert examples.utility[row] == i + j / 100
    built = build_parts(queries, candidates, utilities)
    test = built.part("test")
    assert [text[-1] for text in map(test.texts.__getitem__, test.text)] == built.test_text_ids.to_pylist()
    assert np.isnan(built.test.utility).all()
    assert np.array_equal(built.test_utility, test.utility)
    mean, std = align_rewards(rewards, test)
    assert std is None
    assert mean.tolist() == [
        int(test.queries[code][1:]) * number / 7 for code, number in zip(test.query, test.candidate, strict=True)
    ]


def test_rewards_in_the_order_of_the_test_part_are_taken_as_they_are(tmp_path, monkeypatch):
    queries, candidates, utilities, _ = tables([("u", "test", 3), ("v", "fit", 2), ("u", "test", 2)], random.Random(0))
    test = build_parts(queries, candidates, utilities).test
    written = Predicted(Reward(np.array([1.0, np.nan, 3.0, 4.0, 5.0]), "utility", np.full(5, 0.5)), ("a note",))
    write_rewards(tmp_path / "r.parquet", test, "r", written)
    table = schema.read(tmp_path / "r.parquet", REWARDS)
    looked = []
    real = joins._lookup
    monkeypatch.setattr(joins, "_lookup", lambda *given: looked.append(given) or real(*given))
    found = read_rewards(tmp_path / "r.parquet", test)
    assert not looked
    assert (found.reward.scale, found.notes) == ("utility", ("a note",))
    np.testing.assert_array_equal(found.reward.mean, written.reward.mean)
    np.testing.assert_array_equal(found.reward.std, written.reward.std)
    mean, std = align_rewards(table.take([4, 2, 0, 1]), test)
    assert len(looked) == 2, "rows of another order are found by query and candidate"
    np.testing.assert_array_equal(mean, [1.0, np.nan, 3.0, np.nan, 5.0])
    np.testing.assert_array_equal(std, [0.5, 0.5, 0.5, np.nan, 0.5])


def test_a_test_part_without_utilities_is_an_error():
    queries, candidates, utilities, _ = tables([("u", "test", 2)], random.Random(0))
    rewards = {"r": Predicted(Reward(np.zeros(2)))}
    with pytest.raises(InputError, match="no candidates of test queries"):
        diagnose_parts(build_parts(queries, candidates.slice(0, 0), utilities), {}, Settings(), shared_texts=False)
    with pytest.raises(InputError, match="none for the test candidates"):
        diagnose_parts(build_parts(queries, candidates, utilities.slice(0, 0)), rewards, Settings(), shared_texts=False)
    rewards = {"r": Predicted(Reward(np.full(2, np.nan)))}
    with pytest.raises(InputError, match="the rewards of 'r'"):
        diagnose_parts(build_parts(queries, candidates, utilities), rewards, Settings(), shared_texts=False)


def test_a_missing_utility_is_nan():
    queries, candidates, utilities, _ = tables([("u", "fit", 3)], random.Random(0))
    kept = utilities.filter(pa.array(np.asarray(utilities["candidate"]) != 1))
    examples = build_examples(queries, candidates, kept, "fit")
    assert np.isnan(examples.utility).tolist() == [False, True, False]


def item(user, name, when, text):
    return {"user_id": user, "item_id": name, "input": f"ask {name}", "output": text, "timestamp": when}


def asked(name, user, split, when=None):
    return {
        "query_id": name, "user_id": user, "input": f"ask {name}", "reference": None, "split": split, "timestamp": when
    }  # fmt: skip


def test_a_query_sees_strictly_earlier_items_and_never_its_own():
    items = [item("u", "c", 30, "third"), item("u", "a", 10, "first"), item("u", "b", 10, "same day")]
    items += [item("v", "x", None, "one"), item("v", "y", None, "two"), item("v", "t2", None, "asked again")]
    queries = [
        asked("u/b", "u", "fit", 10),
        asked("c", "u", "fit"),
        asked("u/c", "u", "fit", 30),
        asked("t1", "u", "test", 20),
    ]
    queries += [asked("v/y", "v", "fit"), asked("t2", "v", "test"), asked("t3", "v", "test", 5)]
    history = build_history(table(items, HISTORIES), table(queries, QUERIES))
    assert history.texts == {"u": ("first", "same day", "third"), "v": ("one", "two")}
    assert history.before("u", "u/b") == ()
    assert history.before("u", "u/c") == ("first", "same day")
    assert history.before("u", "c") == ("first", "same day")
    assert history.before("u", "t1") == ("first", "same day")
    assert history.before("v", "v/y") == ("one",)
    assert history.before("v", "t2") == ("one", "two")
    assert history.before("u", "a query of another run") == ("first", "same day", "third")
    assert history.before("nobody", "t1") == ()


def test_a_history_is_read_one_user_at_a_time():
    """Rows of a table that may be larger than memory become Python objects for one user, then for the next."""
    users = [f"u{at}" for at in range(30)]
    items = [item(user, f"i{at}", at, f"{user} wrote {at}") for at in range(4) for user in users]
    queries = [asked(user, user, "test", 2) for user in users]
    history = build_history(table(items, HISTORIES), table(queries, QUERIES))
    assert len(history.texts._last[1]) == 4
    assert {user: history.before(user, user) for user in users} == {
        user: tuple(f"{user} wrote {at}" for at in range(3)) for user in users
    }
    assert len(history.texts._last[1]) == 4
    assert "u30" not in history.texts


def test_histories_that_are_all_test_queries_are_none():
    items, queries = [item("u", "t", 1, "x")], [asked("t", "u", "test")]
    assert build_history(table(items, HISTORIES), table(queries, QUERIES)) is None
    others = [*items, item("v", "t", 1, "y")]
    assert build_history(table(others, HISTORIES), table(queries, QUERIES)).texts == {"u": (), "v": ("y",)}


def test_without_histories_there_is_none():
    assert build_history(HISTORIES.empty_table(), table([asked("t", "u", "test")], QUERIES)) is None
