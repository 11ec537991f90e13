import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.errors import InputError
from bestfor.policies.retrieval import Item, retrieve

HISTORY = [
    Item("a", "rivers in the north", "cold water", 1),
    Item("b", "old bridges of stone", "stone over water", 2),
    Item("c", "the price of bread", "bread and its price", 3),
    Item("d", "bridges", "a bridge too many", 4),
]


def ids(items):
    return [item.item_id for item in items]


def brute_force(items, query):
    """BM25 in Lucene's form, term by term."""
    documents = [f"{item.input} {item.output}".lower().split() for item in items]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        score = 0.0
        for term in set(query.lower().split()):
            holding = sum(term in other for other in documents)
            if holding:
                idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
                count = words.count(term)
                score += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(words) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["bridges of stone", "the price of water", "water water north", "bread bridges"])
def test_bm25_agrees_with_the_formula(query):
    scores = brute_force(HISTORY, query)
    expected = sorted(range(4), key=lambda i: (-round(scores[i], 5), -i))
    assert ids(retrieve(HISTORY, query, 4)) == [HISTORY[i].item_id for i in expected]


def test_recency_takes_the_latest_first():
    assert ids(retrieve(HISTORY[::-1], "anything", 2, method="recency")) == ["d", "c"]
    untimed = [Item(item.item_id, item.input, item.output) for item in HISTORY]
    assert ids(retrieve(untimed, "anything", 3, method="recency")) == ["d", "c", "b"]
    assert ids(retrieve(HISTORY, "words that nobody wrote", 2)) == ["d", "c"], "equal scores rank the latest first"


def test_none_and_zero_take_nothing():
    assert retrieve(HISTORY, "bridges", 3, method="none") == []
    assert retrieve(HISTORY, "bridges", 0) == []
    assert retrieve([], "bridges", 3) == []


times = st.integers(0, 6)
words = st.lists(st.sampled_from(["river", "stone", "bread", "cold"]), max_size=4).map(" ".join)
histories = st.lists(st.tuples(words, words, times), max_size=8).map(
    lambda rows: [Item(str(i), *row) for i, row in enumerate(rows)]
)


@given(items=histories, query=words, k=st.integers(0, 9), before=times, method=st.sampled_from(["bm25", "recency"]))
@settings(max_examples=80, deadline=None)
def test_nothing_at_or_after_the_query_is_seen(items, query, k, before, method):
    found = retrieve(items, query, k, method=method, before=before)
    assert all(item.timestamp < before for item in found)
    past = [item for item in items if item.timestamp < before]
    assert len(found) == min(k, len(past))
    assert found == retrieve(past, query, k, method=method), "later items change not even the order of earlier ones"


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="'bm26'; expected 'bm25'"):
        retrieve(HISTORY, "x", 1, method="bm26")
    with pytest.raises(InputError, match="items in a prompt: found -1"):
        retrieve(HISTORY, "x", -1)
    with pytest.raises(InputError, match="item 'late': found no timestamp"):
        retrieve([*HISTORY, Item("late", "x", "y")], "x", 1, before=3)
