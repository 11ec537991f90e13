from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.policies.others import OthersRetriever
from bestfor.policies.retrieval import Item, Retriever

WORDS = st.lists(st.sampled_from(["stone", "bridge", "river", "bread"]), min_size=1, max_size=3).map(" ".join)


@st.composite
def histories(draw):
    """Users' items; some works are in several histories, in other letters."""
    users = {}
    for user in ("ann", "bob", "cat"):
        rows = draw(st.lists(st.tuples(WORDS, WORDS, st.none() | st.integers(-2, 3)), max_size=4))
        users[user] = [
            Item(f"{user}{at}", f" {asked.title()}", wrote, when) for at, (asked, wrote, when) in enumerate(rows)
        ]
    return users


@settings(max_examples=60)
@given(histories(), st.sampled_from(["bm25", "recency", "random", "none"]), WORDS, st.integers(0, 3), st.data())
def test_only_earlier_works_of_others_show(users, method, query, k, data):
    when = data.draw(st.none() | st.integers(-2, 4))
    reference = data.draw(WORDS)
    found = OthersRetriever(users, {"ann": [reference]}, method, seed=3).best("ann", query, k, before=when)
    own = {reference, query, *(text.strip().lower() for item in users["ann"] for text in (item.input, item.output))}
    fine = [
        item
        for user, items in users.items()
        for item in items
        if user != "ann" and not {item.input.strip().lower(), item.output} & own
        if when is None or item.timestamp is None or item.timestamp < when
    ]
    assert len(found) == (0 if method == "none" else min(k, len(fine)))
    assert all(item in fine for item in found)
    assert len({item.item_id for item in found}) == len(found)


def test_the_most_alike_come_first_and_the_latest_of_equals():
    users = {
        "ann": [Item("own", "a bridge of stone", "mine", 1)],
        "bob": [Item("far", "bread", "price", 2), Item("near", "stone bridge", "over water", 3)],
        "cat": [Item("some", "stone", "wall", 4), Item("late", "stone", "wall", 9)],
    }
    by_words = OthersRetriever(users, {}, "bm25")
    assert [item.item_id for item in by_words.best("ann", "a stone bridge", 3)] == ["near", "late", "some"]
    assert [item.item_id for item in by_words.best("ann", "a stone bridge", 3, before=4)] == ["near", "far"]
    latest = OthersRetriever(users, {}, "recency").best("cat", "x", 2)
    assert [item.item_id for item in latest] == ["near", "far"]


def test_draws_depend_on_the_seed_and_the_query_alone():
    items = [Item(str(at), f"ask {at}", f"wrote {at}") for at in range(40)]
    one = Retriever(items, "random", seed=1)
    first = [item.item_id for item in one.best("query", 5)]
    assert first == [item.item_id for item in Retriever(items, "random", seed=1).best("query", 5)]
    assert first != [item.item_id for item in one.best("another", 5)]
    assert first != [item.item_id for item in Retriever(items, "random", seed=2).best("query", 5)]
    counts = [0] * 40
    for query in range(400):
        for item in one.best(str(query), 4):
            counts[int(item.item_id)] += 1
    assert sum((count - 40) ** 2 / 40 for count in counts) < 80, "about even: chi-square of 39 degrees"
