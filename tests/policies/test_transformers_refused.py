"""What the policy refuses, in one line."""

import shutil

import pytest

from bestfor.errors import InputError
from bestfor.policies.base import Prompt
from bestfor.policies.transformers import TransformersPolicy


def ask(query_id, text):
    return Prompt(query_id, ({"role": "user", "content": text},))


PROMPTS = [ask("q3", "a short note"), ask("q1", "the old stone bridge runs"), ask("q2", "we"), ask("q0", "plain words")]


@pytest.fixture(scope="module")
def policy(checkpoint):
    return TransformersPolicy(checkpoint, max_new_tokens=6, chunk=3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./no/such/folder", "no such folder"),
        ("Qwen/Qwen3-4B-not-there", "hf download Qwen/Qwen3-4B-not-there"),
        ("local:smollm2", "the model.s own name, .smollm2.\\Z"),
        ("not a name", "no such checkpoint"),
    ],
)
def test_an_absent_checkpoint_says_how_to_get_it(model, message, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        TransformersPolicy(model).sample(PROMPTS, 1, seed=0)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"without config\.json"):
        TransformersPolicy(tmp_path).sample(PROMPTS, 1, seed=0)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no usable model"):
        TransformersPolicy(tmp_path).sample(PROMPTS, 1, seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_new_tokens": 0}, {"chunk": 0}, {"stop": ("",)}],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        TransformersPolicy("embedded", **settings)


def test_torn_weights_are_named(checkpoint, tmp_path):
    torn = shutil.copytree(checkpoint, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="no usable model"):
        TransformersPolicy(torn).sample(PROMPTS, 1, seed=0)


def test_unknown_dtype_and_device_are_named(checkpoint):
    with pytest.raises(InputError, match="dtype: found 'float33'"):
        TransformersPolicy(checkpoint, dtype="float33").sample(PROMPTS, 1, seed=0)
    with pytest.raises(InputError, match="device: found 'abacus'"):
        TransformersPolicy(checkpoint, device="abacus").sample(PROMPTS, 1, seed=0)


def test_prompts_that_do_not_fit_or_repeat_are_named(policy):
    with pytest.raises(InputError, match="tokens; expected at most 122, which leaves room for 6"):
        policy.sample([ask("long", "bridge " * 200)], 1, seed=0)
    with pytest.raises(InputError, match="found query 'q1' twice"):
        policy.sample([PROMPTS[1], PROMPTS[1]], 1, seed=0)
