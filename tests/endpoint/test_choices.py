"""What a choice of an answer is read as, by its one reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.endpoint.choices import CUT, FAILED, Spent, read_choice, without_chain

TOOLS = [{"id": "1", "type": "function", "function": {"name": "title", "arguments": "{}"}}]


SOME = Spent(8)


def read(content, reason="stop", *, spent=SOME, **message):
    return read_choice({"message": {"content": content, **message}, "finish_reason": reason}, spent)


READINGS = {
    "a text": (read("River"), ("text", "River")),
    "cut": (read("River", "length"), ("cut", "River")),
    "cut, in Gemini's words": (read("River", "MAX_TOKENS"), ("cut", "River")),
    "parts": (read([{"type": "text", "text": "Ri"}, {"type": "text", "text": "ver"}]), ("text", "River")),
    "parts with a thought": (
        read([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "River"}]),
        ("text", "River"),
    ),
    "a thought alone": (read(None, reasoning_content="Okay, the user"), ("thought", "")),
    "a thought that was cut": (read(None, "length", reasoning="Okay"), ("thought_cut", "")),
    "a hidden thought": (read("", spent=Spent(16, 16)), ("thought", "")),
    "nothing before the limit": (read(None, "length", spent=Spent(0)), ("thought_cut", "")),
    "a thought as a part": (read([{"type": "reasoning", "text": "hm"}]), ("thought", "")),
    "a tool": (read(None, "tool_calls", tool_calls=TOOLS), ("tool_calls", "")),
    "a tool in the text": (read('<tool_call>\n{"name": "title"}\n</tool_call>'), ("tool_calls", "")),
    "tools in the text, after a thought": (
        read('<think>hm</think><tool_call>{"a": 1}</tool_call>\n<tool_call>{"b": 1}', "length"),
        ("tool_calls", ""),
    ),
    "a tool in Mistral's text": (read('[TOOL_CALLS][{"name": "title"}]'), ("tool_calls", "")),
    "a tool in Llama's text": (read('<function=title>{"a": 1}</function>'), ("tool_calls", "")),
    "a text beside a tool's tags": (read("Say <tool_call> twice"), ("text", "Say <tool_call> twice")),
    "an object for content": (read({"type": "text", "text": "River"}), ("text", "River")),
    "an object of thought": (read({"type": "thinking", "thinking": "hm"}), ("thought", "")),
    "cut, with a hyphen": (read("River", "max-tokens"), ("cut", "River")),
    "filtered, with a hyphen": (read("", "content-filter"), ("content_filter", "")),
    "a tool without its reason": (read("", tool_calls=TOOLS), ("tool_calls", "")),
    "filtered": (read("", "content_filter"), ("content_filter", "")),
    "filtered, in Zhipu's words": (read("", "sensitive"), ("content_filter", "")),
    "filtered halfway": (read("Riv", "SAFETY"), ("content_filter", "Riv")),
    "refused": (read(None, refusal="I can't help with that."), ("refusal", "")),
    "refused as a part": (read([{"type": "refusal", "refusal": "I can't."}]), ("refusal", "")),
    "ended at once": (read(""), ("empty", "")),
    "only spaces": (read(" \n", "length"), ("empty", "")),
    "failed": (read("Riv", "error"), ("failed", "")),
    "failed, in DeepSeek's words": (read("", "insufficient_system_resource"), ("failed", "")),
    "no tokens": (read("", spent=Spent(0)), ("failed", "")),
    "null, and no usage": (read(None, spent=Spent()), ("failed", "")),
    "empty, and no usage": (read("", spent=Spent()), ("empty", "")),
    "no message": (
        read_choice({"message": None, "finish_reason": "content_filter"}, Spent(8)),
        ("content_filter", ""),
    ),
    "the completions' own": (read_choice({"text": "River", "finish_reason": None}, Spent(8)), ("text", "River")),
    "an empty completion": (read_choice({"text": "", "finish_reason": "length"}, Spent(8)), ("empty", "")),
    "an error beside a text": (
        read_choice({"text": "Riv", "error": {"message": "Upstream lost"}}, Spent(8)),
        ("failed", ""),
    ),
}


@pytest.mark.parametrize("name", READINGS)
def test_a_choice_has_a_state(name):
    choice, expected = READINGS[name]
    assert (choice.state, choice.text) == expected


def test_a_failure_and_a_refusal_say_why():
    assert read_choice({"error": {"code": 502, "message": "Upstream  lost"}}, Spent(8)).said == "Upstream lost"
    assert read("", "network_error").said == "finish_reason network_error"
    assert read(None, refusal="I can't.").said == "I can't."


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>hm</think> River", "River"),
        ("hm, short.\n</think>\n\nRiver", "River"),
        ("<think>hm", ""),
        ("River <think>was that good?</think>", "River"),
        ("<THINKING>a</THINKING>b</think>River", "River"),
        ("[THINK]hm[/THINK]River", "River"),
        ("◁think▷hm◁/think▷River", "River"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>River", "River"),
    ],
)
def test_chains_of_thought_are_taken_off(text, rest):
    assert without_chain(text) == (rest, True)


@given(st.text(alphabet="ab <>/\n", max_size=40))
def test_texts_without_a_chain_stay_as_they_are(text):
    assert without_chain(text) == (text, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "value"]), inner),
)


@given(
    st.dictionaries(st.sampled_from(["content", "refusal", "tool_calls", "reasoning", "function_call"]), JSON),
    JSON,
    JSON,
    st.none() | st.integers(0, 3),
)
def test_whatever_comes_has_a_state_and_a_text_only_where_that_says_so(message, reason, error, spent):
    choice = read_choice({"message": message, "finish_reason": reason, "error": error}, Spent(spent))
    assert isinstance(choice.text, str)
    assert bool(choice.text.strip()) == (
        choice.state in ("text", "cut") or (choice.state == "content_filter" and bool(choice.text))
    )


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<thought>hm</thought>yes", "yes"),
        ("\n<reasoning>\nhm\n</reasoning>\nyes", "yes"),
        ("<scratchpad>never closed", ""),
        ("the user wants it short\n</reasoning>\n\nyes", "yes"),
        ("hm</thought>yes", "yes"),
        ("&lt;think&gt;hm&lt;/think&gt; yes", "yes"),
        ("analysisWe need a headline.assistantfinalYes", "Yes"),
        ("<|begin_of_thought|>hm<|end_of_thought|>\n\n<|begin_of_solution|>yes<|end_of_solution|>", "yes"),
        ("<unused94>thought\nhm<unused95>yes", "yes"),
    ],
)
def test_chains_in_other_marks(text, rest):
    assert without_chain(text) == (rest, True)


@pytest.mark.parametrize(
    "text", ["My <thought>on this</thought> is no", "analysis of the year's budget", "the <unused94> token"]
)
def test_texts_that_hold_such_words_are_left_alone(text):
    assert without_chain(text) == (text, False)


@pytest.mark.parametrize(
    ("reason", "state"),
    [("model_context_window_exceeded", CUT), ("context_length_exceeded", CUT), ("overloaded", FAILED)],
)
def test_other_reasons_to_end(reason, state):
    assert read_choice({"message": {"content": "a text"}, "finish_reason": reason}, Spent(5)).state == state
