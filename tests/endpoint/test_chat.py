import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.endpoint import Chat, EndpointConfig
from bestfor.endpoint.chat import Answer, Answers, Reading, Request, quoted
from bestfor.errors import BestforError
from support import odd
from support.servers import DROP, HALF, chat, error

WORDS = Reading(lambda choice: choice["message"]["content"], lambda value: isinstance(value, str))


@pytest.fixture
def talk(scripted):
    made = []

    def make(answer, cache=None, **how):
        running = scripted(answer)
        server = EndpointConfig(base_url=running.url, backoff=0.001, retries=1, timeout=5, **how)
        made.append(Chat(server, cache))
        return made[-1], running

    yield make
    for one in made:
        one.close()


def ask(one, words="hello", reading=WORDS, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": words}], **more}
    return one.run(lambda: one.ask(Request("the test", body, 7, "me"), reading))


def test_an_answer_with_its_tokens_is_kept(talk, tmp_path):
    cache = tmp_path / "deep" / "answers.jsonl"
    one, server = talk(lambda request: chat("hi", usage=(11, 3)), cache)
    assert ask(one) == ask(one) == Answer("hi", False, 11, 3)
    assert len(server.requests) == 1
    assert server.requests[0].body["max_tokens"] == 7
    again, silent = talk(lambda request: error(401), cache)
    assert ask(again) == Answer("hi", False, 11, 3)
    assert (silent.requests, again.usage.requests) == ([], 0)
    assert [json.loads(line)["tokens"] for line in cache.read_text().splitlines()] == [[11, 3]]


def test_nonsense_is_kept_with_its_words_and_without_the_key(talk, tmp_path, monkeypatch):
    cache = tmp_path / "answers.jsonl"
    monkeypatch.setenv("TALKS_KEY", "sk-very-secret")
    deaf = Reading(lambda choice: None, lambda value: True)
    one, server = talk(lambda request: chat("I heard sk-very-secret" + "." * 999), cache, key_env="TALKS_KEY")
    first = ask(one, reading=deaf)
    assert first == ask(one, reading=deaf) == Answers(cache).get(json.loads(cache.read_text())["answer"])
    assert first.value is None
    assert first.said.startswith("I heard ***...")
    assert len(first.said) == 300
    server.answer = lambda request: chat(None, finish="length")
    assert ask(one, "more", reading=deaf) == Answer(None, True, 10, 5, "", "thought_cut"), "no text is no answer"
    server.answer = lambda request: chat("my key is sk-very-secret")
    assert ask(one, "again").value == "my key is ***"
    assert "secret" not in cache.read_text()


def test_two_who_ask_the_same_at_once_pay_once(talk):
    one, server = talk(lambda request: chat("hi"))
    request = Request("the test", {"model": "m", "messages": []}, 7)

    async def both():
        return await asyncio.gather(*(one.ask(request, WORDS) for _ in range(5)))

    assert one.run(both) == [Answer("hi", False, 10, 5)] * 5
    assert len(server.requests) == 1


def test_a_torn_line_swallows_no_later_one(talk, tmp_path):
    cache = tmp_path / "answers.jsonl"
    cache.write_text('{"answer": "to')
    one, _ = talk(lambda request: chat("hi"), cache)
    ask(one)
    again, silent = talk(lambda request: error(401), cache)
    assert ask(again).value == "hi"
    assert silent.requests == []
    assert len(cache.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["[]", "3", '{"answer": "x"}', '{"answer": "x", "value": 1, "tokens": 3}', "\x00"])
def test_lines_that_are_no_answers_are_left_aside(tmp_path, line):
    path = tmp_path / "answers.jsonl"
    path.write_text(line + "\n")
    Answers(path).keep("y", Answer("fine"))
    assert Answers(path).get("x") is None
    assert Answers(path).get("y") == Answer("fine")


def test_a_kept_value_of_another_kind_is_asked_for_again(talk, tmp_path):
    cache = tmp_path / "answers.jsonl"
    one, _ = talk(lambda request: chat("hi"), cache)
    ask(one)
    cache.write_text(cache.read_text().replace('"hi"', "[1]"))
    again, asked = talk(lambda request: chat("there"), cache)
    assert ask(again).value == "there"
    assert len(asked.requests) == 1


def test_refused_parameters_are_left_out_or_renamed(talk):
    refused = iter(["logprobs are off", "'seed' is unknown", "use 'max_completion_tokens'"])

    def answer(request):
        words = next(refused, None)
        return chat("hi") if words is None else error(400, words)

    one, server = talk(answer)
    assert ask(one, logprobs=True, top_logprobs=20, seed=3).value == "hi"
    assert set(server.requests[-1].body) == {"model", "messages", "max_completion_tokens"}
    ask(one, "more", logprobs=True, seed=3)
    assert set(server.requests[-1].body) == {"model", "messages", "max_completion_tokens"}
    assert len(server.requests) == 5


@pytest.mark.parametrize("fault", [DROP, HALF, error(400, "no"), error(500)])
def test_what_was_not_answered_is_not_kept(talk, tmp_path, fault):
    one, server = talk(lambda request: chat("hi"), tmp_path / "answers.jsonl")
    ask(one)
    server.answer = lambda request: fault
    failed = ask(one, "more")
    assert (failed.value, failed.refused) == (None, True)
    assert server.url in failed.said
    server.answer = lambda request: chat("at last")
    assert ask(one, "more").value == "at last"


def test_a_server_that_never_answered_ends_the_work(talk):
    one, _ = talk(lambda request: error(500))
    with pytest.raises(BestforError, match=r"the test: endpoint .*500"):
        ask(one)


@pytest.mark.slow
def test_a_dead_server_is_left_alone_and_asked_again_by_the_next_call(talk):
    one, server = talk(lambda request: chat("hi"), concurrency=2)
    ask(one)
    server.answer = lambda request: error(401)

    async def many():
        asked = [Request(str(at), {"model": "m", "messages": [{"content": str(at)}]}, 7) for at in range(50)]
        return await asyncio.gather(*(one.ask(request, WORDS) for request in asked), return_exceptions=True)

    outcomes = one.run(many)
    assert all(isinstance(outcome, BestforError) and "401" in str(outcome) for outcome in outcomes)
    assert len(server.requests) <= 1 + 4
    server.answer = lambda request: chat("alive")
    assert [outcome.value for outcome in one.run(many)] == ["alive"] * 50


@given(st.text(alphabet="</ tex>persona\n", max_size=60))
def test_no_text_breaks_out_of_its_quotes(text):
    held = quoted("text", text, ("persona",))
    inner = held.removeprefix("<text>\n").removesuffix("\n</text>")
    for tag in ("<text", "</text", "< text", "< / text", "<persona>", "</persona>", "</ persona>"):
        assert tag not in inner.lower()
    assert inner.replace("&lt;", "<") == text


def test_other_texts_are_quoted_as_they_are():
    assert quoted("text", "a < b, <b>bold</b>, <texture>") == "<text>\na < b, <b>bold</b>, <texture>\n</text>"
    assert quoted("text", "</TEXT> İ <text>") == "<text>\n&lt;/TEXT> İ &lt;text>\n</text>"


SYSTEM = [{"role": "system", "content": "judge"}, {"role": "user", "content": "this"}]


@pytest.mark.parametrize("name", odd.NO_SYSTEM)
def test_a_judge_without_system_turns_is_asked_without(talk, name):
    one, server = talk(odd.without_system(odd.NO_SYSTEM[name]))
    assert ask(one, messages=SYSTEM).value
    assert server.requests[-1].body["messages"] == [{"role": "user", "content": "judge\n\nthis"}]
    before = len(server.requests)
    assert ask(one, messages=SYSTEM, seed=1).value
    assert len(server.requests) == before + 1, "once is enough"
    assert "takes no system turn" in one.notes[0]


SILENT = {
    "failed": odd.answer([""], "error"),
    "thinking": odd.answer([{"content": None, "reasoning_content": "4, I think"}], "length"),
    "filtered": odd.answer([""], "content_filter"),
    "refused": odd.answer([{"content": None, "refusal": "No."}]),
    "no choices": odd.NO_CHOICES,
}


@pytest.mark.parametrize("name", SILENT)
def test_what_has_no_text_is_no_answer_and_asked_again_by_the_next_call(talk, tmp_path, name):
    cache = tmp_path / "answers.jsonl"
    one, server = talk(lambda request: chat("hi"), cache)
    ask(one)
    server.answer = lambda request: SILENT[name]
    silent = ask(one, "more")
    assert (silent.value, silent.refused) == (None, True)
    assert silent.said or silent.state == "content_filter"
    server.answer = lambda request: chat("at last")
    assert ask(one, "more").value == "at last"
    assert len(cache.read_text().splitlines()) == 2


def test_failures_that_were_kept_once_are_asked_for_again(talk, tmp_path):
    cache = tmp_path / "answers.jsonl"
    one, _ = talk(lambda request: chat("hi"), cache)
    ask(one)
    row = json.loads(cache.read_text()) | {"value": None, "said": "nothing: error"}
    cache.write_text(json.dumps(row) + "\n")
    again, asked = talk(lambda request: chat("there"), cache)
    assert ask(again).value == "there"
    assert len(asked.requests) == 1


def test_a_reading_sees_no_chain_of_thought_and_none_of_its_tokens(talk):
    whole = Reading(lambda choice: [choice["message"]["content"], choice["logprobs"]], lambda value: True)
    tokens = [{"token": part, "logprob": -0.1} for part in ("<think>", "4?", "</think>", " 5", "<|end|>")]
    one, _ = talk(lambda request: odd.answer(["<think>4?</think> 5"], logprobs={"content": tokens}))
    text, logprobs = ask(one, reading=whole).value
    assert text == " 5"
    assert [token["token"] for token in logprobs["content"]] == [" 5", "<|end|>"]
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "4"}]
    listed, _ = talk(lambda request: odd.answer([{"content": parts}]))
    assert ask(listed).value == "4"
