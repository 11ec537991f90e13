import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.data.sources.benchmarks import TASKS
from bestfor.errors import InputError
from bestfor.lm.chat import messages
from bestfor.policies.prompts import TEMPLATES, fit, instruction, turns


def words(chat):
    return sum(len(turn["content"].split()) for turn in chat)


def test_items_are_earlier_turns_and_the_best_stands_next_to_the_query():
    chat = messages("Write.", [("best in", "best out"), ("second in", "second out")], "now")
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [turn["content"] for turn in chat] == ["Write.", "second in", "second out", "best in", "best out", "now"]


def test_no_instruction_means_no_system_turn():
    assert messages("", (), "now") == [{"role": "user", "content": "now"}]


def test_an_item_without_room_is_left_out_and_the_next_is_tried():
    items = [("a", "b"), ("far too", "long for the rest"), ("c", "d")]
    fitted = fit(turns("Write"), items, "now", budget=6, count=words)
    assert fitted.messages == messages("Write", [items[0], items[2]], "now")
    assert fitted.dropped == 1


def test_a_query_over_the_budget_is_an_error():
    with pytest.raises(InputError, match="found 4 tokens without any item; expected at most 3"):
        fit(turns("Write"), [("a", "b")], "one two three", budget=3, count=words)


def test_a_query_over_the_budget_loses_its_end_where_it_may():
    fitted = fit(turns("Write"), [("a", "b")], "one two three four", budget=3, count=words, truncate=True)
    assert fitted.messages == messages("Write", (), "one two")
    assert (fitted.dropped, fitted.cut) == (1, True)
    with pytest.raises(InputError, match="expected at most 1"):
        fit(turns("Write"), (), "one two", budget=1, count=words, truncate=True)


@given(st.text("ab \n", max_size=40), st.integers(1, 30))
def test_what_is_cut_is_a_beginning_that_fits_and_about_the_longest(text, budget):
    def letters(chat):
        return sum(len(turn["content"]) for turn in chat)

    try:
        fitted = fit(turns(""), (), text, budget=budget, count=letters, truncate=True)
    except InputError:
        assert not text[:budget].strip()
        return
    kept = fitted.messages[-1]["content"]
    assert text.startswith(kept)
    assert len(kept) <= budget
    assert fitted.cut == (len(text) > budget)
    if fitted.cut:
        assert kept
        assert not kept.endswith((" ", "\n"))
        longer = text[len(kept) : budget]
        assert " " not in longer.lstrip().rstrip(" \n") or "\n" in longer, "no whole word more would have fitted"


@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=12), st.text("cd ", max_size=12)), max_size=8),
    st.integers(min_value=2, max_value=30),
)
def test_the_budget_holds_and_items_stay_whole(items, budget):
    fitted = fit(turns("Write"), items, "now", budget=budget, count=words)
    assert words(fitted.messages) <= budget
    shown = [turn["content"] for turn in fitted.messages[1:-1]]
    kept = list(zip(shown[::2], shown[1::2], strict=True))
    assert len(kept) == len(items) - fitted.dropped
    assert all(item in items for item in kept)


def test_templates_are_found_by_name():
    assert set(TEMPLATES) == {task.kind for task in TASKS.values()} | {"generic"}
    assert instruction("title") == TEMPLATES["title"]
    with pytest.raises(InputError, match="'headline' \\(did you mean it\\?\\)"):
        instruction("headlines")
