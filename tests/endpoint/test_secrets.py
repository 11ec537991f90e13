"""The key goes to its server and nowhere else."""

import base64
import io
import logging
import traceback

import pytest

from bestfor.endpoint import OPENAI, Address, Endpoint, EndpointConfig
from bestfor.endpoint.address import Secrets, redact
from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.runs.config import parse_config
from support.servers import HALF, Reply, chat, error

KEY = "sk-Very+Secret/0123456789="
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    return KEY


def configured(url, **options):
    return EndpointConfig(base_url=url, key_env="TEST_KEY", backoff=0.001, retries=1, **options)


def ask(endpoint):
    return endpoint.run(lambda: endpoint.post("/chat/completions", BODY, most=8))


def everything_about(error):
    """All that a log, a terminal or a crash report could show of an error, locals of every frame but ours included."""
    told, seen, parts = traceback.TracebackException.from_exception(error, capture_locals=True), set(), []
    while told is not None:
        told.stack[:] = [frame for frame in told.stack if frame.filename != __file__]
        parts.append("".join(told.format(chain=False)))
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts += [repr(error), str(error), repr(vars(error))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


def assert_silent(text):
    for spelling in (KEY, "Very+Secret", "Very%2BSecret", base64.b64encode(KEY.encode()).decode()):
        assert spelling not in text


ECHOES = {
    "401": lambda request: error(401, f"Incorrect API key provided: {KEY}. Look at {KEY}!"),
    "400": lambda request: error(400, f"header {request.headers['authorization']}", param=KEY),
    "500 as text": lambda request: Reply(
        500, request.headers["authorization"].encode(), {"content-type": "text/plain"}
    ),
    "error as an answer": lambda request: Reply(200, {"error": {"message": KEY, "code": 400}}),
    "detail": lambda request: Reply(422, {"detail": [{"loc": ["header"], "input": KEY}]}),
    "half": lambda request: HALF,
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_no_error_and_no_log_tells_the_key(scripted, key, answer, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server = scripted(answer)
    with Endpoint(configured(server.url)) as endpoint:
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is, it must be silent)
            ask(endpoint)
        assert_silent(repr(endpoint) + repr(endpoint.config) + repr(endpoint.usage))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert_silent(everything_about(caught.value))
    assert_silent(caplog.text + "".join(repr(record.args) for record in caplog.records))
    assert_silent("".join(capfd.readouterr()))


def test_no_error_of_the_library_is_kept(scripted, key):
    """An error of openai holds its request, and that the key: none may survive the call."""
    server = scripted(lambda request: error(500))
    with Endpoint(configured(server.url)) as endpoint, pytest.raises(Exception, match="500") as caught:
        ask(endpoint)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_candidates_that_repeat_the_key_are_cleaned(scripted, key, tmp_path):
    server = scripted(lambda request: chat(f"your key is {KEY}", f"or {request.headers['authorization']}"))
    policy = OpenAIPolicy("m", server=configured(server.url))
    [texts] = policy.sample([Prompt("q", ({"role": "user", "content": "hello"},))], 2, seed=0)
    assert [one.text for one in texts] == ["your key is ***", "or Bearer ***"]
    assert_silent(repr(policy) + repr(policy.signature) + repr(policy.notes) + repr(vars(policy)))
    policy.close()


def test_a_key_is_told_to_nobody_by_accident(scripted, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    server = scripted(lambda request: chat("x"))
    with Endpoint(EndpointConfig(base_url=server.url)) as endpoint:
        ask(endpoint)
    assert_silent(repr(server.requests))
    assert Secrets("", Address.parse(OPENAI)).key == KEY
    assert Secrets("", Address.parse(OPENAI + "/")).key == KEY
    assert Secrets("", Address.parse("https://api.openai.com.example.org/v1")).key == "none"


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_asked_for_and_not_there(monkeypatch, value):
    monkeypatch.delenv("TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(InputError, match="environment variable TEST_KEY: found no key"):
        Endpoint(configured("http://127.0.0.1:9/v1"))


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "ключ", "tab\there"])
def test_what_cannot_be_a_key_is_refused_before_a_library_shows_it(monkeypatch, value):
    monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(InputError, match="unprintable") as caught:
        Endpoint(configured("http://127.0.0.1:9/v1"))
    assert value not in str(caught.value)


def test_blanks_around_a_key_are_no_part_of_it(monkeypatch):
    monkeypatch.setenv("TEST_KEY", " abcd\r\n")
    assert Secrets("TEST_KEY", Address.parse("http://a/v1")).key == "abcd"


def test_credentials_of_an_address_are_sent_and_not_shown(scripted, caplog):
    caplog.set_level(logging.DEBUG)
    server = scripted(lambda request: error(400, request.headers["authorization"] + request.path))
    secret = server.url.replace("127", "ann:p%40ss-word@127") + "?api-version=2024&code=hidden-code"
    with Endpoint(EndpointConfig(base_url=secret)) as endpoint:
        with pytest.raises(Exception, match="HTTP 400") as caught:
            ask(endpoint)
        shown = repr(endpoint) + repr(endpoint.config) + everything_about(caught.value) + caplog.text
    request = server.requests[0]
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"ann:p@ss-word").decode()
    assert request.path == "/v1/chat/completions?api-version=2024&code=hidden-code"
    for word in ("p@ss", "p%40ss", base64.b64encode(b"ann:p@ss-word").decode()):
        assert word not in shown
    assert "hidden-code" not in repr(endpoint) + repr(endpoint.config) + str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://ann:secret@host/v1", "https://***@host/v1"),
        ("https://token@host:81/v1", "https://***@host:81/v1"),
        ("https://a:b@c:d@host/v1", "https://***@host/v1"),
        ("https://host/v1?key=secret&b=", "https://host/v1?key=***&b=***"),
        ("https://host/v1#secret", "https://host/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_addresses_as_they_are_shown(url, shown):
    assert redact(url) == shown
    assert Address.parse(url).shown == shown
    assert "secret" not in repr(Address.parse(url))


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://host/v1", "http://", "ann:secret@host/v1", "http://a:secret@:80/", "http://[x/v1"],
)
def test_what_is_no_address(url):
    with pytest.raises(InputError, match="base_url") as caught:
        EndpointConfig(base_url=url)
    assert "secret" not in str(caught.value)


def test_an_address_whose_secrets_were_left_out_is_not_used():
    for url in ("https://***@host/v1", "https://host/v1?key=***"):
        with pytest.raises(InputError, match="left out"):
            EndpointConfig(base_url=url)


RUN = {
    "data": {"source": "world", "users": 2},
    "split": {"min_fit": 0, "min_test": 1},
    "policy": {"kind": "openai", "model": "m", "n": 2},
    "reward": [{"kind": "length"}],
}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://ann:hushed@host/v1",
        {"base_url": ["http://ann:hushed@host/v1"]},
        {"base_url": "ftp://ann:hushed@host/v1"},
        {"base_url": "http://ann:hushed@host/v1", "concurrency": 0},
        {"base_url": "http://ann:hushed@host/v1", "max_cost": 1.0},
        {"base_url": "http://ann:hushed@host/v1", "concurency": 1},
    ],
)
def test_a_bad_run_file_does_not_tell_an_address(endpoint):
    with pytest.raises(InputError) as caught:
        parse_config({**RUN, "policy": {**RUN["policy"], "endpoint": endpoint}}, "run.toml")
    assert "hushed" not in str(caught.value)
    assert "hushed" not in "".join(traceback.format_exception(caught.value))


def test_a_resolved_run_file_does_not_tell_an_address():
    policy = {**RUN["policy"], "endpoint": {"base_url": "http://ann:hushed@host/v1?key=hushed"}}
    config = parse_config({**RUN, "policy": policy}, "run.toml")
    for text in (repr(config), config.model_dump_json(), repr(config.model_dump())):
        assert "hushed" not in text
    assert config.policy.endpoint.base_url.startswith("http://ann:hushed@"), "what is used"


def test_tracebacks_of_policies_are_silent(scripted, key):
    server = scripted(lambda request: error(401, KEY))
    policy = OpenAIPolicy("m", server=configured(server.url))
    out = io.StringIO()
    try:
        policy.sample([Prompt("q", ({"role": "user", "content": "hello"},))], 2, seed=0)
    except Exception as error_:
        traceback.print_exc(file=out)
        assert_silent(everything_about(error_))
    assert "401" in out.getvalue()
    assert_silent(out.getvalue())
    policy.close()
