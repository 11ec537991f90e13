"""What servers do with a request, as far as it differs from server to server."""

import pytest

from bestfor.policies.base import UnfinishedError
from support.answers import asked, prompts, single
from support.servers import Reply, chat, error


def test_a_server_without_n_is_noticed_fanned_out_to_and_remembered(policy):
    made, server = policy(single)
    [written] = made.sample(prompts("a"), 6, seed=0)
    assert len({one.text for one in written}) == 6
    assert [request.body.get("n", 1) for request in server.requests] == [6, 1, 1, 1, 1, 1]
    assert len({request.body["seed"] for request in server.requests}) == 6
    made.sample(prompts("b"), 3, seed=0)
    assert [request.body.get("n", 1) for request in server.requests[6:]] == [1, 1, 1]
    assert any("at most 1 choices to a request" in note for note in made.notes)


def test_a_server_that_gives_some_is_asked_for_as_many(policy):
    made, server = policy(
        lambda request: chat(*(f"{request.number} {i}" for i in range(min(4, request.body.get("n", 1)))))
    )
    [written] = made.sample(prompts("a"), 10, seed=0)
    assert len({one.text for one in written}) == 10
    sent = [request.body.get("n", 1) for request in server.requests]
    assert (sent[0], sorted(sent[1:])) == (10, [2, 4]), "the last two are sent side by side"


def test_more_choices_than_asked_for_are_left_alone(policy):
    made, _ = policy(lambda request: chat("a", "b", "c", "d"))
    assert [len(one) for one in made.sample(prompts("a"), 2, seed=0)] == [2]


REFUSALS = {
    "n": error(400, "n must be 1", param="n"),
    "n in words": error(422, "Only one completion: 'n' is not supported"),
    "n too large": error(400, "Invalid 'n': integer above maximum value. n must be <= 8"),
    "seed": error(400, "Unknown parameter: 'seed'", param="seed"),
    "logprobs": Reply(422, {"detail": [{"loc": ["body", "logprobs"], "msg": "extra fields not permitted"}]}),
    "max_tokens": error(
        400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", param="max_tokens"
    ),
    "top_p": error(400, "Unsupported parameter: top_p", param="top_p"),
    "stop": error(400, "stop: not supported with this model", param="stop"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_server_refuses_and_can_be_done_without_is_left_out(policy, name):
    field = name.split()[0]

    def picky(request):
        most = 8 if name == "n too large" else 1
        refused = request.body.get("n", 1) > most if field == "n" else field in request.body
        return REFUSALS[name] if refused else single(request)

    made, server = policy(picky, stop=("END",))
    written = made.sample(prompts("a", "b"), 3, seed=0)
    assert [len(one) for one in written] == [3, 3]
    before = len(server.requests)
    made.sample(prompts("c"), 3, seed=0)
    later = [request.body for request in server.requests[before:]]
    assert all(field not in body for body in later) or field == "n"
    if field == "max_tokens":
        assert all(body["max_completion_tokens"] == 32 for body in later)
    if field in ("seed", "logprobs"):
        assert any(f"no {'logprobs, ' if field == 'seed' else ''}{field}" in note for note in made.notes)


def test_what_changes_the_distribution_is_not_left_out(policy):
    made, server = policy(lambda request: REFUSALS["top_p"], top_p=0.9)
    with pytest.raises(UnfinishedError, match="top_p"):
        made.sample(prompts("a"), 2, seed=0)
    assert len(server.requests) == 1


def test_a_greedy_server_is_noticed(policy):
    made, _ = policy(lambda request: chat(*["the same"] * request.body.get("n", 1)))
    made.sample(prompts("a", "b"), 4, seed=0)
    assert made.notes[0].startswith("2 of 2 queries got nothing but identical candidates from m")
    made.sample(prompts("c"), 1, seed=0)
    assert made.notes[0].startswith("2 of 2 "), "one candidate is not compared"


def test_thinking_aloud_is_noticed(policy):
    made, _ = policy(lambda request: chat("<think>hm</think> a", "b"))
    [written] = made.sample(prompts("a"), 2, seed=0)
    assert [one.text for one in written] == ["a", "b"]
    assert "1 candidates of m came after a chain of thought" in made.notes[0]


def test_prompts_that_come_back_are_noticed(policy):
    long = "a question of more than a few words"
    made, _ = policy(lambda request: chat(f"<user> {asked(request)} <assistant> fine", "fine"))
    made.sample(prompts(long, "short"), 2, seed=0)
    assert "1 candidates of m repeat their prompt" in made.notes[0]


def test_a_limit_that_a_refusal_names_is_believed(policy):
    """The words are those of llama.cpp with four slots."""
    words = "Field 'n': Value must be between 1 <= value <= 4, but got 10"

    def slots(request):
        n = request.body.get("n", 1)
        return error(400, words) if n > 4 else chat(*(f"{request.body['seed']} {i}" for i in range(n)))

    made, server = policy(slots)
    [written] = made.sample(prompts("a"), 10, seed=0)
    assert len({one.text for one in written}) == 10
    assert sorted(request.body["n"] for request in server.requests) == [2, 4, 4, 10]
    assert "at most 4 choices" in made.notes[0]


def test_tokens_are_counted_where_a_server_states_those_of_the_first_choice_alone(policy):
    def first(request):
        answer = chat("a b c", "d e", usage=(7, 3))
        for choice, count in zip(answer["choices"], (3, 2), strict=True):
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -1.0}] * count}
        return answer

    made, _ = policy(first)
    [written] = made.sample(prompts("a"), 2, seed=0)
    assert [one.tokens for one in written] == [3, 2]
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 5)
