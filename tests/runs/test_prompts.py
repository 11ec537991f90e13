"""No prompt ever shows the item that is asked, a later one, or a test query's own text."""

import re
from dataclasses import dataclass

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.runs.prompts import Prompting, build_prompts

MARK = re.compile(r"[io]q?\d+x\d+")


@dataclass(frozen=True)
class Roomy:
    """A policy without a limit that is never asked to write."""

    name: str = "roomy"
    chunk: int = 4
    signature: tuple = ()


@dataclass(frozen=True)
class Narrow(Roomy):
    budget: int = 14

    def count(self, messages):
        return sum(len(message["content"].split()) for message in messages)


@st.composite
def worlds(draw):
    """Users whose every input and output carries a mark of its own; some items are those that are asked."""
    items, queries = [], []
    for user in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 6))
        timed = draw(st.booleans())
        times = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)) if timed else [None] * count
        unasked = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        for at in range(count):
            # Common words, so that every item is near every other.
            asked = "" if unasked[at] else f"about the town i{user}x{at}"
            items.append((f"u{user}", f"{at}", asked, f"the town again o{user}x{at}", times[at]))
        for at in range(draw(st.integers(0, 2))):
            twin = draw(st.integers(-1, count - 1))
            same = twin >= 0 and items[-count + twin][2]
            text = f" {items[-count + twin][2]} " if same else f"about the town iq{user}x{at}"
            queries.append(
                (f"q{user}x{at}", f"u{user}", text, f"oq{user}x{at}", "test", draw(st.none() | st.integers(0, 4)))
            )
    order = (
        draw(st.permutations(range(len(items)))) if all(item[4] is not None for item in items) else range(len(items))
    )
    return [items[at] for at in order], queries


def table(rows, schema):
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


@given(
    worlds(),
    st.sampled_from(["bm25", "recency", "random", "none"]),
    st.integers(0, 9),
    st.integers(0, 7),
    st.sampled_from(["", "LaMP_4", "LaMP_5", "LaMP_7"]),
    st.sampled_from([Roomy(), Narrow()]),
)
def test_nothing_that_must_not_be_seen_is_in_a_prompt(world, retriever, shown, fit_items, published, policy):
    rows, given_rows = world
    if published and isinstance(policy, Narrow):
        policy = Narrow(budget=60)
    prompting = Prompting("do", shown, retriever, published)
    asked = build_prompts(policy, table(rows, HISTORIES), table(given_rows, QUERIES), fit_items, prompting)
    own = {f"{row[0]}/{row[1]}": (place, row) for place, row in enumerate(rows)}
    twins = {(row[1], row[2].strip()) for row in given_rows}
    outputs = {re.search(MARK, row[3])[0]: (place, row) for place, row in enumerate(rows)}
    for prompt in asked.prompts:
        text = "\n".join(message["content"] for message in prompt.messages)
        seen = [outputs[mark] for mark in MARK.findall(text) if mark in outputs]
        assert not re.search(r"oq\d", text), "a test query's own text"
        user = next(row["user_id"] for row in asked.queries.to_pylist() if row["query_id"] == prompt.query_id)
        assert all(row[0] == user for _, row in seen), "another user's item"
        assert all((row[0], row[2]) not in twins for _, row in seen), "an item that is a test query"
        if prompt.query_id in own:
            place, item = own[prompt.query_id]
            for other_place, other in seen:
                earlier = other_place < place if item[4] is None else other[4] < item[4]
                assert earlier, f"{other[1]} is shown for {item[1]}"
    fits = [query for query in asked.queries.to_pylist() if query["split"] == "fit"]
    assert all(query["input"] for query in fits), "an unasked item is never a query"
    assert all((query["user_id"], query["input"]) not in twins for query in fits)


@given(worlds(), st.sampled_from(["bm25", "recency", "random"]))
def test_later_items_change_no_prompt(world, retriever):
    """Whatever is written afterwards, a fit query's prompt is the same: not even a word's frequency leaks."""
    rows, _ = world
    none = table([], QUERIES)
    prompting = Prompting("do", 2, retriever)
    whole = build_prompts(Roomy(), table(rows, HISTORIES), none, 9, prompting)
    prompts = {prompt.query_id: prompt.messages for prompt in whole.prompts}
    for place, item in enumerate(rows):
        before = [
            row
            for at, row in enumerate(rows)
            if row[0] == item[0] and (at <= place if item[4] is None else row[4] < item[4] or row == item)
        ]
        alone = build_prompts(Roomy(), table(before, HISTORIES), none, 9, prompting)
        name = f"{item[0]}/{item[1]}"
        if item[2]:
            assert {prompt.query_id: prompt.messages for prompt in alone.prompts}[name] == prompts[name]


def test_what_finds_no_room_is_counted():
    rows = [("u", f"{at}", f"ask {at}", "word " * (at + 1), at) for at in range(4)]
    asked = build_prompts(
        Narrow(budget=10), table(rows, HISTORIES), table([], QUERIES), 9, Prompting("do", 4, "recency")
    )
    # Instruction and question take 3 of 10; items take 3, 4, 5 and 6 and are tried latest first.
    assert dict(zip([prompt.query_id for prompt in asked.prompts], asked.shown, strict=True)) == {
        "u/0": 0,
        "u/1": 1,
        "u/2": 2,
        "u/3": 1,
    }
    assert asked.dropped == (0, 0, 0, 2)
    assert asked.counts == {
        "queries": 4,
        "items_shown": 4,
        "items_dropped": 2,
        "prompts_with_dropped_items": 1,
    }
    limited = build_prompts(
        Roomy(), table(rows, HISTORIES), table([], QUERIES), 9, Prompting("do", 4, "recency", tokens=22)
    )
    assert sum(limited.dropped) > 0, "without a policy's own count tokens are estimated"


def test_as_a_control_others_items_show_and_never_the_users_own_works():
    rows = [(user, f"{at}", f"{user} asks {at}", f"{user} wrote {at}", at) for user in "ab" for at in range(4)]
    rows.append(("b", "joint", "A asks  3", "their joint work", 0))
    given_rows = [("q", "a", "a new", "b wrote 1", "test", 9), ("p", "c", "nobody's", "r", "test", None)]
    prompting = Prompting("do", 9, "recency", items_from="others")
    asked = build_prompts(Roomy(), table(rows, HISTORIES), table(given_rows, QUERIES), 2, prompting)
    shown = {
        prompt.query_id: [turn["content"] for turn in prompt.messages if turn["role"] == "assistant"]
        for prompt in asked.prompts
    }
    # The joint work is a's third item under another name, and one of b's texts is what a wrote for the query.
    assert shown["q"] == ["b wrote 0", "b wrote 2", "b wrote 3"]
    assert shown["a/2"] == ["b wrote 0"]
    assert shown["a/3"] == ["b wrote 0", "b wrote 2"]
    assert shown["b/3"] == ["a wrote 0", "a wrote 1", "a wrote 2"]
    assert len(shown["p"]) == 9
