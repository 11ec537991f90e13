"""Servers of models on this machine: settings, who shares one, and llama.cpp's own with the shipped model."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from bestfor.endpoint import Address, Endpoint, EndpointConfig, EndpointError, local
from bestfor.endpoint.local import LlamaServer, LlamaSettings, identity_of, keeping_servers, local_settings
from bestfor.endpoint.tables import EndpointTable
from bestfor.errors import InputError, MissingExtraError
from bestfor.lm.location import locate
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.rewards.judge import Judge
from support.gguf_of import convert

PROMPTS = [Prompt(name, ({"role": "user", "content": f"The {name} was wet."},)) for name in ("fair", "mayor")]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "policy.gguf"
    convert(locate("embedded"), path)
    return path


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.gguf"
    path.write_bytes(b"GGUF")
    return path


class Counted:
    """A server that only counts."""

    running = 0

    def __init__(self, settings):
        self.settings, self.alive, self.url = settings, True, "http://127.0.0.1:9/v1"
        Counted.running += 1

    def close(self):
        Counted.running -= 1


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(local, "LlamaServer", Counted)
    monkeypatch.setattr(Counted, "running", 0)
    return Counted


def test_an_address_says_how_its_server_runs(empty):
    found = local_settings(f"local:{empty}?slots=4&context=2048&threads=3")
    assert found == LlamaSettings(str(empty.resolve()), 4, 2048, 3)
    assert local_settings(f"local:{empty}") == LlamaSettings(str(empty.resolve()))
    for said, message in (
        ("?slot=4", "found 'slot'; expected 'slots'"),
        ("?slots=many", "found 'many'; expected a whole number"),
        ("?slots=0", "found 0; expected 1 or more"),
    ):
        with pytest.raises(InputError, match=message):
            local_settings(f"local:{empty}{said}")
    with pytest.raises(InputError, match="expected a model's name, as in 'local:smollm2'"):
        Address.parse("local:")
    with pytest.raises(InputError, match="expected"):
        local_settings("local:no-such-model")


def test_what_a_local_judge_needs_is_known_beforehand(empty, monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: name)
    model = Judge(Judge.Config(model="any", endpoint=EndpointTable(base_url=f"local:{empty}")))
    model.ready()
    with pytest.raises(InputError, match="found no 'absent' on this machine"):
        Judge(Judge.Config(model="any", endpoint=EndpointTable(base_url="local:absent"))).ready()


def test_what_is_written_down_is_the_name_and_what_keys_pools_the_file(empty, tmp_path):
    said = f"local:{empty}?slots=4"
    assert EndpointTable(base_url=said).model_dump()["base_url"] == said
    assert EndpointConfig(said).base_url == said
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(empty.read_bytes())
    assert identity_of(said) == identity_of(f"local:{moved}")
    moved.write_bytes(b"GGUF, another")
    assert identity_of(said) != identity_of(f"local:{moved}")
    assert identity_of("http://127.0.0.1:8000/v1") == "http://127.0.0.1:8000/v1"


def test_those_who_ask_for_the_same_share_one_and_the_last_stops_it(empty, counted):
    settings = LlamaSettings(str(empty))
    first, second, other = (local.Lease(one) for one in (settings, settings, LlamaSettings(str(empty), 2)))
    assert counted.running == 2
    assert first.server is second.server is not other.server
    first.release()
    first.release()
    assert counted.running == 2
    second.release()
    other.release()
    assert counted.running == 0
    with keeping_servers():
        local.Lease(settings).release()
        assert counted.running == 1
        again = local.Lease(settings)
        again.server.alive = False
        assert local.Lease(settings).server.alive
    assert counted.running == 1
    local._servers.clear()


def test_a_lasting_server_is_started_again_at_its_address_until_nobody_wants_it(empty, monkeypatch):
    begun, again = [], threading.Event()

    class Process:
        def __init__(self):
            self.ended = threading.Event()
            self.wait = self.ended.wait

    class Mortal:
        url = "http://127.0.0.1:4321/v1"

        def __init__(self, settings):
            if len(begun) == 1 and not refused:
                refused.append(settings)
                raise InputError("it", "a port that is not free yet", "patience")
            self.settings, self.process = settings, Process()
            self.close = self.process.ended.set
            begun.append(self)
            if len(begun) == 2:
                again.set()

    refused = []
    monkeypatch.setattr(local, "LlamaServer", Mortal)
    monkeypatch.setattr(local, "_PAUSE", 0.01)
    with local.lasting_server(LlamaSettings(str(empty))) as url:
        assert url == Mortal.url
        begun[0].process.ended.set()
        assert again.wait(30)
        assert [one.settings.port for one in begun] == [0, 4321]
        assert refused
        assert not begun[1].process.ended.is_set()
    assert begun[1].process.ended.is_set()
    assert len(begun) == 2


def test_without_the_extra_it_says_what_to_install(empty, monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bestfor\[local\]'"):
        LlamaServer(LlamaSettings(str(empty)))


@pytest.mark.slow
def test_what_cannot_be_served_is_one_line_with_the_first_error_of_the_log(empty, file):
    with pytest.raises(InputError, match=r"empty\.gguf: found no server \(.+\); expected a model that llama"):
        LlamaServer(LlamaSettings(str(empty)))
    with pytest.raises(
        InputError, match=r"py: found no server \(gguf_init.* invalid magic characters: .*'GGUF'\); expect"
    ):
        LlamaServer(LlamaSettings(__file__))
    with pytest.raises(InputError, match=r"found no server \(OverflowError: value too large"):
        LlamaServer(LlamaSettings(str(file), context=2**40))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port}: found it taken .*; expected a free port"):
            LlamaServer(LlamaSettings(str(file), port=port))


def test_a_server_that_ends_under_way_is_started_once_more(empty, counted):
    begun = []

    class Ended(Counted):
        def __init__(self, settings):
            super().__init__(settings)
            begun.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LlamaServer", Ended)
        endpoint = Endpoint(EndpointConfig(f"local:{empty}", retries=2, backoff=0.0))

        async def ask():
            begun[0].alive = False
            return await endpoint.post("/completions", {"prompt": "x"}, most=1)

        with endpoint, pytest.raises(EndpointError, match=r"no connection.* \(3 attempts\)"):
            endpoint.run(ask)
    assert len(begun) == 2
    assert counted.running == 0


@pytest.mark.slow
def test_a_run_goes_on_where_its_server_is_killed_and_no_proxy_is_asked(file, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    policy = OpenAIPolicy(
        "any",
        base_url=f"local:{file}?slots=2&context=1024&threads=1",
        max_new_tokens=8,
        server=EndpointConfig(backoff=0.1),
    )
    killed, checked = [], Endpoint._checked

    def kill_first(self, answer):
        if not killed:
            killed.append(next(iter(local._servers.values()))[0])
            killed[0].process.kill()
        return checked(self, answer)

    monkeypatch.setattr(Endpoint, "_checked", kill_first)
    prompts = [replace(PROMPTS[0], query_id=f"q{number}") for number in range(20)]
    assert [len(row) for row in policy.sample(prompts, 2, seed=0)] == [2] * 20
    assert not killed[0].alive
    policy.close()


@pytest.mark.slow
def test_a_policy_starts_it_and_closing_stops_it(file):
    policy = OpenAIPolicy("any", base_url=f"local:{file}?slots=4&context=2048&threads=1", max_new_tokens=8)
    rows = policy.sample(PROMPTS, 4, seed=0)
    assert [len(row) for row in rows] == [4, 4]
    assert all(one.logprob is not None for row in rows for one in row)
    (server, uses) = next(iter(local._servers.values()))
    assert uses == 1
    server.process.kill()
    server.process.wait()
    assert len(policy.sample(PROMPTS, 2, seed=1)) == 2, "another one is started where it has died"
    policy.close()
    assert not local._servers


@pytest.mark.slow
def test_requests_wait_for_room_in_the_context_and_none_fails(file):
    policy = OpenAIPolicy("any", base_url=f"local:{file}?slots=16&context=600&threads=1", max_new_tokens=8)
    prompts = [Prompt(f"q{number}", ({"role": "user", "content": "It was wet. " * 18},)) for number in range(16)]
    assert len(policy.sample(prompts, 1, seed=0)) == 16
    assert policy.usage.failed == 0
    policy.close()


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it_however_that_ends(file):
    code = (
        "from bestfor.endpoint.local import LlamaServer, LlamaSettings\n"
        f"server = LlamaServer(LlamaSettings({str(file)!r}, 2, 1024, 1))\n"
        "print(server.url, server.process.pid, flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    url, child = parent.stdout.readline().split()
    assert urllib.request.urlopen(f"{url}/models").status == 200
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        os.sched_yield()
    else:
        assert not Path(f"/proc/{child}").exists()
