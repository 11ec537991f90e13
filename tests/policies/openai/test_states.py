"""Candidates without a text and queries without candidates: what becomes of them in a pool."""

import json

import pytest

from bestfor.data.states import has_text
from bestfor.endpoint import EndpointConfig
from bestfor.errors import BestforError
from bestfor.policies.base import UnfinishedError
from bestfor.pool import CandidatePool
from support import odd
from support.answers import prompts
from support.pools import fill, tables
from support.servers import error

THINKS = {"content": None, "reasoning_content": "Okay, the user wants"}
TOOL = {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]}
NAMES = ("q0", "q1", "q2", "q3 storm")


def test_choices_that_failed_are_asked_for_again_and_told(policy):
    made, server = policy(odd.half_fails)
    written = made.sample(prompts("a", "b"), 6, seed=0)
    assert [[bool(one.text) for one in each] for each in written] == [[True] * 6] * 2
    assert made.notes[0] == "8 choices of m failed and were asked for again (8 x Upstream lost)"
    assert not any("choices to a request" in note for note in made.notes), "it gives as many as were asked for"
    assert all(request.body.get("n", 1) in (6, 3, 2, 1) for request in server.requests)


def test_choices_that_fail_for_ever_are_owed(policy):
    made, _ = policy(odd.every(lambda text: "", "network_error"))
    with pytest.raises(UnfinishedError, match="an answer that failed: finish_reason network_error") as caught:
        made.sample(prompts("a"), 3, seed=0)
    assert caught.value.written == [{}]
    assert caught.value.refused == {}


SILENT = {
    "thinking": (odd.every(lambda _: THINKS, "length"), "stopped at max_new_tokens before any answer"),
    "thought": (odd.every(lambda _: THINKS), "switch thinking off"),
    "tool": (odd.every(lambda _: TOOL, "tool_calls"), "call a tool instead"),
    "filter": (odd.every(lambda _: "", "content_filter"), "withheld by the server's content filter"),
    "refusal": (odd.every(lambda _: {"content": None, "refusal": "No."}), "refused by the model"),
    "empty": (odd.every(lambda _: ""), "ended before the first word"),
    "unclosed": (odd.every(lambda text: f"<think>{text}", "length"), "stopped at max_new_tokens before any answer"),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_run_stops_where_most_candidates_have_no_text_and_says_why(policy, tmp_path, name):
    server, told = SILENT[name]
    made, running = policy(server, chunk=1, server=EndpointConfig(concurrency=2))
    for _ in range(2):
        with pytest.raises(BestforError, match="candidates of m have no text and are left out") as caught:
            fill(made, tmp_path, *(f"q{at}" for at in range(40)), n=8)
        assert told in str(caught.value)
    assert len(running.requests) < 40, "it is noticed on the way"


@pytest.mark.parametrize("state", ["filter", "refusal", "tool", "message"])
def test_some_candidates_without_a_text_are_left_out_counted_and_never_scored(policy, tmp_path, state):
    message, reason = {
        "filter": ("", "content_filter"),
        "refusal": ({"content": None, "refusal": "No."}, "stop"),
        "tool": (TOOL, "tool_calls"),
        "message": (None, "content_filter"),
    }[state]
    made, server = policy(odd.first(lambda _: message, reason))
    told = []
    pool = fill(made, tmp_path, "a", "b", n=4, tell=told.append)
    rows = pool.scan()
    assert rows["candidate"].to_pylist() == [1, 2, 3] * 2
    assert all(rows["text"].to_pylist())
    [note] = pool.notes
    assert note.startswith("2 of 8 candidates of m have no text and are left out: 2 ")
    assert f"pool: {note}" in told
    assert not any("identical" in note for note in made.notes)
    server.requests.clear()
    fill(made, tmp_path, "a", "b", n=4)
    assert server.requests == [], "they are no failures"


def test_chains_of_thought_are_taken_off_and_limits_noted(policy, tmp_path):
    made, _ = policy(odd.every(lambda text: f"hm, short.\n</think>\n\n{text}"))
    texts = fill(made, tmp_path / "tail", "a", n=4).scan()["text"].to_pylist()
    assert not any("think" in text or "short" in text for text in texts)
    assert made.notes[0].startswith("4 candidates of m came after a chain of thought")
    cut, _ = policy(odd.every(lambda text: f"Okay, {text}", "length"), max_new_tokens=16)
    pool = fill(cut, tmp_path / "cut", "a", n=4)
    assert pool.notes == ("4 of 4 candidates of m were cut short at max_new_tokens = 16: raise it",)


REFUSING = {
    "filtered": odd.FILTERED,
    "no choices": odd.NO_CHOICES,
    "too long": error(413, "context length exceeded"),
    "moderated": error(403, "Your input was flagged"),
}


@pytest.mark.parametrize("name", REFUSING)
def test_a_query_that_is_refused_for_ever_does_not_block_the_others(policy, tmp_path, name):
    made, server = policy(odd.refusing("storm", REFUSING[name]), chunk=2, server=None)
    # Something is answered first: a server that forbids everything is no matter of one query.
    made.sample(prompts("first"), 1, seed=0)
    pool = fill(made, tmp_path, *NAMES, refused="skip")
    assert pool.missing() == []
    assert sorted(set(pool.scan()["query_id"].to_pylist())) == ["q0", "q1", "q2"]
    [note] = pool.notes
    assert "refuses 1 of 4 queries" in note
    assert "q3 storm: 1 x" in note
    server.requests.clear()
    fill(made, tmp_path, *NAMES, refused="skip")
    assert server.requests == []
    with pytest.raises(BestforError, match='refused = "skip"'):
        fill(made, tmp_path, *NAMES, refused="error")
    assert {odd.last(request) for request in server.requests} == {"q3 storm"}
    server.answer = odd.honest
    server.requests.clear()
    whole = fill(made, tmp_path, *NAMES, refused="skip")
    assert [odd.last(request) for request in server.requests] == ["q3 storm"]
    assert whole.scan().num_rows == 12
    assert whole.notes == ()


def test_what_most_queries_meet_is_no_matter_of_one(policy, tmp_path):
    made, _ = policy(odd.refusing("q", odd.FILTERED), chunk=2)
    made.sample(prompts("first"), 1, seed=0)
    with pytest.raises(BestforError, match="12 candidates are missing"):
        fill(made, tmp_path, *NAMES, refused="skip")


def test_another_failure_is_not_taken_for_a_refusal(policy, tmp_path):
    def moody(request):
        return (
            odd.FILTERED
            if "storm" in odd.last(request)
            else error(404)
            if "q1" in odd.last(request)
            else odd.honest(request)
        )

    made, server = policy(moody, chunk=2)
    made.sample(prompts("first"), 1, seed=0)
    with pytest.raises(BestforError, match="6 candidates are missing"):
        fill(made, tmp_path, *NAMES, refused="skip")
    server.answer = odd.refusing("storm", odd.FILTERED)
    assert fill(made, tmp_path, *NAMES, refused="skip").scan().num_rows == 9


def test_queries_taken_out_and_put_back_are_not_paid_for_twice(policy, tmp_path):
    made, server = policy(odd.honest, chunk=3)
    names = [f"q{at}" for at in range(8)]
    whole = tables(fill(made, tmp_path, *names))
    server.requests.clear()
    fewer = tables(fill(made, tmp_path, *(name for name in names if name != "q3")))
    assert fewer == {place: text for place, text in whole.items() if place[0] != "q3"}
    assert tables(fill(made, tmp_path, *names)) == whole
    assert server.requests == []
    fill(made, tmp_path, *names, n=4)
    assert len(server.requests) == 8, "another number of candidates is another question"
    (tmp_path / "asked.json").write_text("[")
    assert tables(fill(made, tmp_path, *names)) == whole


@pytest.mark.parametrize("name", odd.NO_SYSTEM)
def test_servers_without_system_turns(policy, name):
    made, server = policy(odd.without_system(odd.NO_SYSTEM[name]))
    assert [len(one) for one in made.sample(prompts("a", "b"), 3, seed=0)] == [3, 3]
    assert server.requests[-1].body["messages"][0]["content"] in ("do\n\na", "do\n\nb")
    assert made.notes[-1] == "the server of m takes no system turn: the instruction stands before the first user turn"


def test_a_server_that_is_down_is_not_said_to_lack_system_turns(policy):
    made, _ = policy(lambda request: error(500))
    with pytest.raises(UnfinishedError, match="HTTP 500"):
        made.sample(prompts("a"), 3, seed=0)
    assert made.notes == ()


RANGE = "a candidateCount value of 12 but the supported range is from 1 (inclusive) to 9 (exclusive)."
LESS = {"detail": [{"loc": ["body", "n"], "msg": "Input should be less than or equal to 3"}]}
LIMITS = {
    "Gemini": (8, odd.Reply(400, [{"error": {"message": RANGE}}])),
    "Gemini 3": (1, odd.Reply(400, [{"error": {"message": "Multiple candidates is not enabled for this model"}}])),
    "a gateway": (1, error(403, "Only a single completion is allowed on this plan: n must be 1")),
    "FastAPI": (3, odd.Reply(422, LESS)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_of_n_in_other_words(policy, name):
    most, reply = LIMITS[name]
    made, server = policy(odd.limited(most, reply))
    [written] = made.sample(prompts("a"), 12, seed=0)
    assert len(written) == 12
    server.requests.clear()
    made.sample(prompts("b"), 12, seed=0)
    assert max(request.body.get("n", 1) for request in server.requests) == most
    assert any(f"at most {most} choices to a request" in note for note in made.notes)


@pytest.mark.parametrize(
    "reply",
    [
        error(403, "You are not allowed to request logprobs from this model.", param=None),
        odd.Reply(400, [{"error": {"code": 400, "message": "Logprobs is not enabled for this model"}}]),
        odd.Reply(
            422, {"message": {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]}}
        ),
    ],
)
def test_refused_logprobs_in_other_words(policy, reply):
    made, server = policy(lambda request: reply if request.body.get("logprobs") else odd.honest(request))
    assert len(made.sample(prompts("a"), 2, seed=0)[0]) == 2
    assert ["logprobs" in request.body for request in server.requests] == [True, False]


def test_states_are_of_rows_without_a_text_only():
    assert has_text("content_filter", "half a text")
    assert has_text("stop", "")
    assert not has_text("content_filter", "")
    assert not has_text("no_candidates", "HTTP 400: filtered")


def test_a_pool_with_states_is_sound(policy, tmp_path):
    made, _ = policy(odd.refusing("storm", odd.FILTERED))
    fill(made, tmp_path, *NAMES, refused="skip")
    assert CandidatePool(tmp_path).verify() == []
    assert len(json.loads((tmp_path / "notes.json").read_text())) == 1
