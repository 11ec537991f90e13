"""The policy against llama.cpp's own server, which serves the shipped model in its file format.

Neither the server nor the writer of its format is installed for the tests: ``pip install xllamacpp gguf``.
"""

import subprocess
import sys

import pytest

from bestfor.lm.location import locate
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.policies.transformers import TransformersPolicy
from support import later, needs
from support.gguf_of import convert

torch = later("torch")


needs("xllamacpp", "gguf")
pytestmark = pytest.mark.slow

SERVE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.cpuparams.n_threads = sys.argv[1], int(sys.argv[2]), 1
params.n_ctx, params.warmup, params.port = 1024 * int(sys.argv[2]), False, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
PROMPTS = [
    Prompt(
        name, ({"role": "system", "content": "You give articles their headlines."}, {"role": "user", "content": text})
    )
    for name, text in (("a", "The fair was wet."), ("b", "The mayor of Saltby spoke about the new bridge."))
]
SETTINGS = {"max_new_tokens": 24, "extra_body": {"top_k": 0, "min_p": 0.0}}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / "policy.gguf"
    convert(locate("embedded"), path)
    return path


@pytest.fixture
def llama_cpp(model_file):
    """Starts a server with so many slots."""
    started = []

    def start(slots):
        command = [sys.executable, "-c", SERVE, str(model_file), str(slots)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        return process.stdout.readline().strip() + "/v1"

    yield start
    for process in started:
        process.communicate("")


def teacher(prompt, candidate):
    """Log-probability of a candidate's text, its end where it has ended, and the number of its tokens."""
    checkpoint = TransformersPolicy("embedded").checkpoint
    asked = checkpoint.encode(list(prompt.messages))
    wrote = checkpoint.tokenizer(candidate.text, add_special_tokens=False)["input_ids"]
    wrote += [checkpoint.tokenizer.eos_token_id] if candidate.finish_reason == "stop" else []
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([asked + wrote])).logits[0, len(asked) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(wrote)[:, None]).sum()), len(wrote)


def test_as_many_as_it_has_slots_come_in_one_request(llama_cpp):
    policy = OpenAIPolicy("embedded", base_url=llama_cpp(32), **SETTINGS)
    written = policy.sample(PROMPTS, 30, seed=0)
    assert [len({one.text for one in row}) for row in written] == [30, 30]
    assert (policy.usage.requests, policy.usage.failed, policy.notes) == (2, 0, ())
    total = sum(one.tokens for row in written for one in row)
    assert policy.usage.completion_tokens == total, "it states the tokens of the first choice alone"
    pairs = [
        (one.logprob, *teacher(prompt, one), one.tokens)
        for prompt, row in zip(PROMPTS, written, strict=True)
        for one in row
    ]
    same = [(found, expected) for found, expected, count, tokens in pairs if count == tokens]
    assert len(same) > 50, "a text may have been sampled in other tokens than it is read in"
    assert sum(abs(found - expected) < 0.01 for found, expected in same) > 0.9 * len(same)
    again = OpenAIPolicy("embedded", base_url=policy.base_url, **SETTINGS)
    pairs = zip(again.sample(PROMPTS, 30, seed=0), written, strict=True)
    repeated = [one.text == other.text for row, rows in pairs for one, other in zip(row, rows, strict=True)]
    assert sum(repeated) > 50, "its seeds count, up to the bits of whatever shares its batches"
    policy.close()
    again.close()


def test_more_than_it_has_slots_are_refused_and_asked_for_in_parts(llama_cpp):
    policy = OpenAIPolicy("embedded", base_url=llama_cpp(4), **SETTINGS)
    written = policy.sample(PROMPTS, 10, seed=0)
    assert [len({one.text for one in row}) for row in written] == [10, 10]
    assert policy.notes[0].startswith("the server of embedded gives at most 4 choices to a request")
    assert (policy.usage.requests, policy.usage.failed) == (8, 2)
    policy.close()
