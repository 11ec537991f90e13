"""The policy against real servers on loopback that serve the shipped model."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from bestfor.endpoint import EndpointConfig
from bestfor.lm.location import locate
from bestfor.policies.base import Prompt, UnfinishedError
from bestfor.policies.openai import OpenAIPolicy
from bestfor.policies.transformers import TransformersPolicy
from support.servers import DROP, HALF, error, sampling

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PROMPTS = [
    Prompt(
        name, ({"role": "system", "content": "Write a headline."}, {"role": "user", "content": f"About the {name}."})
    )
    for name in ("river", "mayor", "garden")
]


def served(folder, *, template=CHATML, sampling=True):
    """A copy of the shipped model as transformers serves it."""
    shutil.copytree(locate("embedded"), folder)
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if not sampling:
        kept = {"eos_token_id": 1, "pad_token_id": 0}
        (folder / "generation_config.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until_it_answers(port, alive):
    for _ in range(1200):
        assert alive(), "the server has ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            threading.Event().wait(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture
def transformers_serve(tmp_path):
    """Starts ``transformers serve`` and waits until it answers."""
    started = []

    def start(model):
        port = free_port()
        log = (tmp_path / f"serve-{port}.log").open("wb")
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--device", "cpu"]
        (tmp_path / "hub").mkdir(exist_ok=True)
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
        )
        started.append((process, log))
        wait_until_it_answers(port, lambda: process.poll() is None)
        return f"http://127.0.0.1:{port}/v1"

    yield start
    for process, log in started:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture
def serve_in_thread(tmp_path, monkeypatch):
    """The application behind ``transformers serve`` on a thread of this process: nothing is imported twice."""
    from transformers.cli.serve import Serve
    from transformers.utils import logging

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    before, started = logging.get_verbosity(), []

    def start(model):
        port = free_port()
        started.append(Serve(force_model=str(model), non_blocking=True, host="127.0.0.1", port=port, device="cpu"))
        wait_until_it_answers(port, started[-1]._thread.is_alive)
        return f"http://127.0.0.1:{port}/v1"

    yield start
    for server in started:
        server.kill_server()
    logging.set_verbosity(before)


def check_what_transformers_serve_does(model, url):
    """It drops n and logprobs without a word: noticed, and asked one by one; texts differ and are cut at stops."""
    policy = OpenAIPolicy(str(model), base_url=url, max_new_tokens=16, stop=("<|", "!"))
    written = policy.sample(PROMPTS, 4, seed=1)
    for candidates in written:
        assert len({one.text for one in candidates}) > 1
        assert all("<|" not in one.text and "!" not in one.text for one in candidates)
        assert all(one.logprob is None and 1 <= one.tokens <= 16 for one in candidates)
        assert {one.finish_reason for one in candidates} <= {"stop", "length"}
    assert policy.usage.requests == 12
    assert policy.usage.estimated == policy.usage.failed == 0
    assert ["at most 1 choices" in note for note in policy.notes] == [True, False]
    assert "no logprobs" in policy.notes[1]
    plain = replace(policy, api="completions")
    [candidates] = plain.sample(PROMPTS[:1], 3, seed=1)
    assert len({one.text for one in candidates}) == 3
    picky = replace(policy, extra_body={"top_k": 5})
    with pytest.raises(UnfinishedError, match="top_k"):
        picky.sample(PROMPTS[:1], 1, seed=1)
    for one in (policy, plain, picky):
        one.close()


@pytest.mark.slow
def test_transformers_serve_in_this_process(serve_in_thread, tmp_path):
    model = served(tmp_path / "sampling")
    check_what_transformers_serve_does(model, serve_in_thread(model))


@pytest.mark.slow
def test_transformers_serve(transformers_serve, tmp_path):
    model = served(tmp_path / "sampling")
    check_what_transformers_serve_does(model, transformers_serve(model))


@pytest.mark.slow
def test_the_shipped_template_makes_transformers_serve_repeat_prompts(transformers_serve, tmp_path):
    model = served(tmp_path / "shipped", template="")
    policy = OpenAIPolicy(str(model), base_url=transformers_serve(model), max_new_tokens=8)
    long = Prompt(
        "long", (PROMPTS[0].messages[0], {"role": "user", "content": "About the garden behind the old town hall."})
    )
    policy.sample([long], 2, seed=0)
    assert "2 candidates" in policy.notes[0]
    assert "repeat their prompt" in policy.notes[0]
    policy.close()


@pytest.mark.slow
def test_transformers_serve_without_sampling_stays_greedy(transformers_serve, tmp_path):
    model = served(tmp_path / "greedy", sampling=False)
    policy = OpenAIPolicy(str(model), base_url=transformers_serve(model), max_new_tokens=12)
    written = policy.sample(PROMPTS, 3, seed=1)
    assert [len({one.text for one in candidates}) for candidates in written] == [1, 1, 1]
    assert policy.notes[0].startswith("3 of 3 queries got nothing but identical candidates")
    policy.close()


def honest(body):
    """The shipped model through this project's own sampler."""
    policy = TransformersPolicy(
        "embedded",
        temperature=body["temperature"],
        top_p=body["top_p"],
        max_new_tokens=body["max_tokens"],
        stop=tuple(body.get("stop", ())),
    )
    return Prompt("served", tuple(body["messages"])), policy


FAULTS = [
    error(429, headers={"retry-after": "0"}),
    error(500),
    HALF,
    DROP,
    error(503, headers={"retry-after": "Thu, 01 Jan 2015 00:00:00 GMT"}),
]


def faulty(behind):
    """Faults in front of a server: they meet the first requests."""
    return lambda request: FAULTS[request.number] if request.number < len(FAULTS) else behind(request)


@pytest.mark.parametrize("front", [lambda server: server, faulty], ids=["plain", "with faults"])
def test_a_server_that_honours_n(scripted, front):
    server = scripted(front(sampling(honest)))
    config = EndpointConfig(base_url=server.url, backoff=0.001)
    policy = OpenAIPolicy("embedded", server=config, max_new_tokens=16, temperature=0.9, top_p=0.95, stop=("!",))
    written = policy.sample(PROMPTS, 4, seed=7)
    bodies = {request.body["messages"][1]["content"]: request.body for request in server.requests}
    assert all(body["n"] == 4 for body in bodies.values())
    for prompt, candidates in zip(PROMPTS, written, strict=True):
        own = TransformersPolicy("embedded", max_new_tokens=16, temperature=0.9, top_p=0.95, stop=("!",))
        seed = bodies[prompt.messages[1]["content"]]["seed"]
        [expected] = own.sample([replace(prompt, query_id="served")], 4, seed=seed)
        assert [(one.text, one.tokens, one.finish_reason) for one in candidates] == [
            (one.text, one.tokens, one.finish_reason) for one in expected
        ]
        assert [one.logprob for one in candidates] == pytest.approx([one.logprob for one in expected])
    assert policy.notes == ()
    assert policy.usage.requests - policy.usage.failed == 3
    assert policy.usage.failed == (len(FAULTS) if front is faulty else 0)
    assert policy.usage.completion_tokens == sum(one.tokens for candidates in written for one in candidates)
    policy.close()
