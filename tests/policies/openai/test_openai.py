from dataclasses import replace

import pytest

from bestfor.endpoint import Budget, EndpointConfig
from bestfor.errors import InputError
from bestfor.policies.base import Policy, Resumable, UnfinishedError
from bestfor.policies.openai import OpenAIPolicy
from support.answers import asked, honest, prompts, single
from support.servers import chat, error


def test_it_is_a_policy(policy):
    made, _ = policy(honest)
    assert isinstance(made, Policy)
    assert isinstance(made, Resumable)


def test_n_in_one_request(policy):
    made, server = policy(honest, temperature=0.7, max_new_tokens=9, stop=("END",))
    written = made.sample(prompts("a", "b"), 5, seed=3)
    assert len(server.requests) == 2
    for name, candidates in zip("ab", written, strict=True):
        assert len({one.text for one in candidates}) == 5
        assert all(one.text.startswith(name) for one in candidates)
        assert {(one.tokens, one.logprob, one.finish_reason) for one in candidates} == {(5, None, "stop")}
    body = next(request.body for request in server.requests if asked(request) == "a")
    assert body.pop("seed") < 2**31
    assert body == {
        "model": "m",
        "messages": list(prompts("a")[0].messages),
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 9,
        "n": 5,
        "stop": ["END"],
        "logprobs": True,
    }


def test_the_same_seed_asks_for_the_same(policy):
    made, server = policy(honest)
    first, again = (made.sample(prompts("a", "b"), 3, seed=1) for _ in range(2))
    assert first == again
    assert made.sample(prompts("b", "a"), 3, seed=1) == first[::-1]
    assert made.sample(prompts("a", "b"), 3, seed=2) != first
    seeds = [request.body["seed"] for request in server.requests]
    assert len(set(seeds)) == 4


def with_logprobs(request):
    answer = chat("two words", "three", finish="length")
    tokens = [[-0.5, -0.25], [-1.0]]
    for choice, values in zip(answer["choices"], tokens, strict=True):
        choice["logprobs"] = {"content": [{"token": "x", "logprob": value, "top_logprobs": []} for value in values]}
    return answer


def test_logprobs_where_the_server_gives_them(policy):
    made, _ = policy(with_logprobs)
    [written] = made.sample(prompts("a"), 2, seed=0)
    assert [(one.tokens, one.logprob, one.finish_reason) for one in written] == [
        (2, -0.75, "length"),
        (1, -1.0, "length"),
    ]
    assert made.notes == ()


def completion(request):
    values = [-0.5, -2.0] if request.body.get("logprobs") else None
    choice = {
        "text": " and so on ",
        "index": 0,
        "finish_reason": None,
        "logprobs": values and {"token_logprobs": values},
    }
    return {"choices": [choice] * request.body.get("n", 1), "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


@pytest.mark.parametrize("logprobs", [True, False])
def test_the_completions_endpoint(policy, logprobs):
    made, server = policy(completion, api="completions", logprobs=logprobs)
    [written] = made.sample(prompts("a"), 2, seed=0)
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body["prompt"] == "do\n\na\n\n"
    assert {(one.text, one.logprob, one.finish_reason) for one in written} == {
        ("and so on", -2.5 if logprobs else None, "unknown")
    }
    assert [one.tokens for one in written] == ([2, 2] if logprobs else [1, 1])


def test_texts_are_cut_at_stops_whatever_the_server_does(policy):
    made, _ = policy(lambda request: chat("one\ntwo", "one", "\n", finish="length"), stop=("\n", "zz"))
    [written] = made.sample(prompts("a"), 3, seed=0)
    assert [(one.text, one.finish_reason) for one in written] == [("one", "stop"), ("one", "length"), ("", "empty")]


@pytest.mark.parametrize(
    ("content", "text"), [(None, ""), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab")]
)
def test_contents_of_other_kinds(policy, content, text):
    made, _ = policy(lambda request: chat(content, finish="content_filter"))
    [[one]] = made.sample(prompts("a"), 1, seed=0)
    assert (one.text, one.finish_reason) == (text, "content_filter")


def test_a_choice_without_a_text_is_no_candidate(policy):
    made, _ = policy(lambda request: {"choices": [{"index": 0}]})
    with pytest.raises(UnfinishedError, match="no text, no reason and no tokens"):
        made.sample(prompts("a"), 1, seed=0)


def of_users(*names):
    return [replace(prompt, user_id=prompt.query_id) for prompt in prompts(*names)]


def test_each_user_has_a_model_of_their_own(policy):
    made, server = policy(honest, user_model="titles-{user}")
    made.sample(of_users("a", "b/c d"), 2, seed=0)
    assert sorted(request.body["model"] for request in server.requests) == ["titles-a", "titles-b%2Fc%20d"]
    assert made.signature["user_model"] == "titles-{user}"
    with pytest.raises(InputError, match="user_model"):
        OpenAIPolicy("m", user_model="everybody")


def test_users_without_a_model_of_their_own_get_the_model_itself(policy):
    made, server = policy(
        lambda request: honest(request) if request.body["model"] in "mb" else error(404), user_model="{user}"
    )
    written = made.sample(of_users("a", "b"), 2, seed=0)
    assert [len(one) for one in written] == [2, 2]
    assert sorted(request.body["model"] for request in server.requests) == ["a", "b", "m"]
    assert any("1 users have no adapter" in note for note in made.notes)
    server.answer = lambda request: error(404)
    with pytest.raises(UnfinishedError, match="404"):
        made.sample(of_users("a"), 2, seed=0)


def test_extra_fields_are_sent(policy):
    made, server = policy(honest, extra_body={"top_k": -1, "chat_template_kwargs": {"enable_thinking": False}})
    made.sample(prompts("a"), 2, seed=0)
    assert server.requests[0].body["top_k"] == -1
    assert server.requests[0].body["chat_template_kwargs"] == {"enable_thinking": False}


def test_one_refused_query_does_not_cost_the_others(policy):
    made, _ = policy(lambda request: error(400, "too long") if asked(request) == "b" else honest(request))
    with pytest.raises(UnfinishedError, match=r"query 'b': endpoint .*: HTTP 400: too long") as caught:
        made.sample(prompts("a", "b", "c"), 3, seed=0)
    assert not caught.value.hopeless
    assert [sorted(got) for got in caught.value.written] == [[0, 1, 2], [], [0, 1, 2]]


def test_what_was_written_is_not_asked_for_again(policy):
    def broken(request):
        return error(400, "no") if request.number in (2, 4) else single(request)

    made, server = policy(broken)
    made.sample(prompts("z"), 1, seed=0)
    with pytest.raises(UnfinishedError) as caught:
        made.sample(prompts("a"), 6, seed=0)
    [got] = caught.value.written
    assert len(got) == 4
    server.requests.clear()
    server.answer = single
    [written] = made.complete(prompts("a"), 6, seed=0, have=[got])
    assert len(server.requests) == 2
    assert [written[index] for index in got] == list(got.values())
    assert len({one.text for one in written}) == 6, "no seed is used twice"


def test_a_dead_server_ends_the_call_at_once(policy):
    made, server = policy(lambda request: error(401), server=EndpointConfig(concurrency=2))
    with pytest.raises(UnfinishedError, match="HTTP 401") as caught:
        made.sample(prompts(*map(str, range(40))), 3, seed=0)
    assert caught.value.hopeless
    assert len(server.requests) <= 4


def test_a_budget_keeps_what_it_paid_for(policy):
    made, server = policy(honest, server=EndpointConfig(budget=Budget(max_requests=3), concurrency=2))
    with pytest.raises(UnfinishedError, match="the budget of 3 requests is spent") as caught:
        made.sample(prompts("a", "b", "c", "d", "e"), 4, seed=0)
    assert sum(map(len, caught.value.written)) == 12
    assert len(server.requests) == made.usage.requests == 3


def test_what_names_a_part(policy):
    made, server = policy(honest)
    assert made.signature["server"] == server.url
    same = replace(made, identity="qwen on vllm")
    assert same.signature["server"] == "qwen on vllm"
    assert replace(same, server=EndpointConfig(base_url="http://elsewhere/v1")).signature == same.signature
    for change in (
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"max_new_tokens": 8},
        {"stop": ("x",)},
        {"extra_body": {"k": 1}},
    ):
        assert replace(made, **change).signature != made.signature


def test_prompts_are_fitted_to_a_context():
    made = OpenAIPolicy("m", base_url="http://127.0.0.1:9/v1", context=100, max_new_tokens=40)
    assert made.budget == 60
    assert made.count([{"role": "user", "content": "twelve bytes"}]) == 12
    assert OpenAIPolicy("m").budget is None


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"chunk": 0}, "chunk"),
        ({"stop": ("",)}, "stop"),
        ({"api": "responses"}, "api"),
        ({"context": 32}, "context"),
        ({"extra_body": {"x": object()}}, "extra_body"),
        ({"base_url": "http://a/v1", "server": EndpointConfig(base_url="http://b/v1")}, "base_url"),
        ({"base_url": "nowhere"}, "base_url"),
    ],
)
def test_options_out_of_range(options, where):
    with pytest.raises(InputError, match=where):
        OpenAIPolicy("m", **options)


def test_a_query_asked_twice(policy):
    made, _ = policy(honest)
    with pytest.raises(InputError, match="query 'a' twice"):
        made.sample(prompts("a", "a"), 2, seed=0)
