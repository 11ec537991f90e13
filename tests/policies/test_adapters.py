import json
import signal
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.lm.location import fingerprint, locate
from bestfor.policies.base import Prompt
from bestfor.policies.openai.adapters import ServedAdapters
from bestfor.policies.transformers import TransformersPolicy, noise_of
from support import later, tiny

adapters = later("bestfor.lm.adapters", "torch")
adapter_files = later("bestfor.lm.adapter_files", "torch")
peft = later("peft")
personal = later("bestfor.policies.adapters", "torch", "peft")
safetensors_torch = later("safetensors.torch")
torch = later("torch")
transformers = later("transformers")


# peft 0.21 reads a name that transformers 5 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def quick():
    """A training that is over at once."""
    return personal.LoraSettings(rank=2, alpha=8.0, steps=4, tokens=96, rate=0.05)


def example(asked, wrote):
    return personal.Example(({"role": "user", "content": asked},), wrote)


@cache
def examples():
    return {
        "ann": [example("old stone", "bridge bridge bridge"), example("quiet", "bridge of the river")],
        "bob": [example("old stone", "SHOUT LOUD"), example("short", "LOUD LOUD LOUD")],
        "c/../ünï": [example("long roads", "evenings")],
    }


PROMPTS = [
    Prompt(f"q{index}", ({"role": "user", "content": text},), user)
    for index, (text, user) in enumerate(
        [
            ("a short note", "ann"),
            ("the old stone", "bob"),
            ("we", "nobody"),
            ("plain words", "c/../ünï"),
            ("we", "ann"),
        ]
    )
]


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapters")
    return out, personal.train_adapters(checkpoint, examples(), out, quick())


@pytest.fixture(scope="module")
def both(checkpoint, tmp_path_factory):
    """An adapter for all, and personal ones on top."""
    out = tmp_path_factory.mktemp("both")
    return out, personal.train_adapters(checkpoint, examples(), out, replace(quick(), shared_steps=3))


def weights_of(path):
    return {name: tensor.tolist() for name, tensor in safetensors_torch.load_file(path).items()}


def files(out):
    return {path.name: path.read_bytes() for path in out.glob("*.safetensors")}


def test_an_adapter_learns_its_users_texts(trained):
    _, record = trained
    assert set(record["users"]) == set(examples())
    for entry in record["users"].values():
        assert entry["last_loss"] < entry["first_loss"]
    assert [entry["examples"] for entry in record["users"].values()] == [2, 2, 1]


def test_an_adapter_does_not_depend_on_who_was_trained_before(checkpoint, trained, tmp_path):
    out, _ = trained
    personal.train_adapters(checkpoint, {"bob": examples()["bob"]}, tmp_path / "alone", quick())
    assert files(tmp_path / "alone") == {adapter_files.file_of("bob"): files(out)[adapter_files.file_of("bob")]}
    turned = dict(reversed(examples().items()))
    personal.train_adapters(checkpoint, turned, tmp_path / "turned", quick())
    assert files(tmp_path / "turned") == files(out)
    more = {"aaron": [example("never", "seen before")], **examples()}
    personal.train_adapters(checkpoint, more, tmp_path / "more", quick())
    assert files(tmp_path / "more").items() > files(out).items()


def test_a_base_with_dropout_makes_no_difference(tmp_path):
    base = tiny.save(
        tmp_path / "base", transformers.GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=4, eos_token_id=1)
    )
    config = replace(quick(), targets=("c_attn",))
    personal.train_adapters(base, {user: examples()[user] for user in ("ann", "bob")}, tmp_path / "two", config)
    personal.train_adapters(base, {"bob": examples()["bob"]}, tmp_path / "one", config)
    assert files(tmp_path / "two").items() > files(tmp_path / "one").items()


def test_few_users_are_kept_in_memory(trained, monkeypatch):
    monkeypatch.setattr(adapter_files, "KEPT", 2)
    folder = adapter_files.AdapterFolder(trained[0], trained[1]["base"])
    first = [folder.of(user) for user in examples()]
    assert len(folder._read) < len(examples())
    again = [folder.of(user) for user in examples()]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one[layer][0], other[layer][0]) for layer in one)


def test_the_base_is_as_it_was(checkpoint, trained):
    before = safetensors_torch.load_file(checkpoint / "model.safetensors")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in before.items())
    assert fingerprint(checkpoint) == trained[1]["base"]


def test_first_weights_are_the_users_own(checkpoint, tmp_path):
    same = {"one": examples()["ann"], "two": examples()["ann"]}
    personal.train_adapters(checkpoint, same, tmp_path, replace(quick(), rate=1e-9))
    one, two = (safetensors_torch.load_file(tmp_path / adapter_files.file_of(user)) for user in same)
    for key, tensor in one.items():
        if "lora_A" in key:
            assert tensor.float().abs().max() <= tensor.shape[1] ** -0.5 + 1e-3
            assert not torch.equal(tensor, two[key])
        else:
            assert tensor.float().abs().max() < 1e-6


def peft_logits(checkpoint, folder, user, ids):
    """What peft's own loading of an exported adapter says, one sequence at a time."""
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder) if user else base
    with torch.inference_mode():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("kind", ["trained", "both"])
def test_a_mixed_batch_is_what_peft_computes_for_each_user(checkpoint, kind, request, tmp_path):
    out, record = request.getfixturevalue(kind)
    found = adapter_files.AdapterFolder(out, record["base"])
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = [5, 17, 9, 40, 8]
    users = ["ann", "bob", "c/../ünï"]
    with torch.inference_mode():
        plain = model(input_ids=torch.tensor([ids] * 3)).logits
        with adapters.attached(model, [found.of(user) for user in users]):
            mixed = model(input_ids=torch.tensor([ids] * 3)).logits
        assert torch.equal(plain, model(input_ids=torch.tensor([ids] * 3)).logits)
    assert (mixed - plain).abs().max() > 0.5
    for row, user in enumerate(users):
        personal.export(out, user, tmp_path / str(row), base=checkpoint)
        expected = peft_logits(checkpoint, tmp_path / str(row), user, ids)
        assert torch.allclose(mixed[row], expected, atol=2e-3, rtol=1e-3)


def test_personal_and_common_adapter_add_up(both):
    out, record = both
    folder = adapter_files.AdapterFolder(out, record["base"])
    layer, (down, up) = next(iter(folder.of("ann").items()))
    assert down.shape[0] == up.shape[1] == 4, "two ranks each"
    key = f"base_model.model.{layer}"
    total = 0
    for name in ("shared.safetensors", adapter_files.file_of("ann")):
        tensors = {key: tensor.float() for key, tensor in safetensors_torch.load_file(out / name).items()}
        total = total + 4.0 * tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
    assert torch.allclose(up @ down, total, atol=1e-5)
    assert len(folder.of("nobody")) == len(folder.of("ann")), "who has no adapter wears the common one"


def test_the_common_adapter_stands_alone_without_personal_steps(checkpoint, both, tmp_path):
    config = replace(quick(), steps=0, shared_steps=3)
    record = personal.train_adapters(checkpoint, examples(), tmp_path, config)
    assert record["users"] == {user: {"examples": len(found)} for user, found in examples().items()}
    assert list(files(tmp_path)) == ["shared.safetensors"]
    assert weights_of(tmp_path / "shared.safetensors") == weights_of(both[0] / "shared.safetensors")
    alone = adapter_files.AdapterFolder(tmp_path, record["base"])
    for user in (*examples(), "nobody"):
        assert alone.of(user).keys() == alone.of("nobody").keys()
        assert all(
            torch.equal(a, b)
            for layer in alone.of(user)
            for a, b in zip(alone.of(user)[layer], alone.of("ann")[layer], strict=True)
        )
    for bad in ({"steps": 0}, {"steps": -1}, {"shared_steps": -1}):
        with pytest.raises(InputError, match="steps"):
            replace(quick(), **bad)


def test_training_with_a_common_adapter_is_what_peft_does_with_two_active(checkpoint, both):
    """The first step of a personal adapter, redone by hand: B moves by the learning rate along the gradient's sign."""
    out, record = both
    settings = record["settings"]
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    shape = peft.LoraConfig(r=2, lora_alpha=8, target_modules=list(settings["targets"]), task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, shape, adapter_name="shared")
    peft.set_peft_model_state_dict(
        model, safetensors_torch.load_file(out / "shared.safetensors"), adapter_name="shared"
    )
    policy = TransformersPolicy(checkpoint)
    one = examples()["c/../ünï"][0]
    asked = policy.checkpoint.encode(list(one.messages))
    end = policy.checkpoint.tokenizer.eos_token_id
    wrote = [*policy.checkpoint.tokenizer(one.output, add_special_tokens=False)["input_ids"], end]
    ids = torch.tensor([[*asked, *wrote]])
    labels = torch.where(torch.arange(ids.shape[1]) < len(asked), -100, ids)
    loss = float(model(input_ids=ids, labels=labels).loss.detach())
    assert record["users"]["c/../ünï"]["first_loss"] == pytest.approx(loss, abs=1e-3)


def raw(policy, prompts, n=8):
    noise = np.stack([noise_of(prompt.query_id, n, policy.max_new_tokens, seed=0) for prompt in prompts])
    encoded = [policy.checkpoint.encode(list(prompt.messages)) for prompt in prompts]
    users = [policy._adapters.of(prompt.user_id) for prompt in prompts]
    return policy.checkpoint.run(encoded, noise, (), temperature=1.0, top_p=1.0, adapters=users)


@pytest.mark.parametrize("architecture", ["side by side", "copies"])
def test_users_in_one_batch_write_what_they_write_alone(checkpoint, trained, architecture, tmp_path):
    base, out = checkpoint, trained[0]
    if architecture == "copies":
        config = transformers.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4, eos_token_id=1)
        base, out = tiny.save(tmp_path / "base", config), tmp_path / "out"
        personal.train_adapters(base, examples(), out, replace(quick(), targets=("query_key_value", "dense")))
    policy = TransformersPolicy(base, adapters=out, max_new_tokens=6)
    assert policy.checkpoint.shares is (architecture == "side by side")
    mixed = raw(policy, PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = raw(policy, [prompt])
        assert np.mean((mixed.tokens[row] == alone.tokens[0]).all(axis=1)) > 0.8
        same = (mixed.tokens[row] == alone.tokens[0]).all(axis=1)
        assert mixed.logprob[row][same] == pytest.approx(alone.logprob[0][same], abs=2e-3)
    plain = TransformersPolicy(base, max_new_tokens=6).sample(PROMPTS, 8, seed=0)
    written = policy.sample(PROMPTS, 8, seed=0)
    changed = [one != other for one, other in zip(written, plain, strict=True)]
    assert changed == [True, True, False, True, True], "only who has an adapter writes differently"


def test_the_signature_knows_the_adapters(checkpoint, trained, tmp_path):
    out, _ = trained
    plain, adapted = TransformersPolicy(checkpoint), TransformersPolicy(checkpoint, adapters=out)
    assert {**plain.signature, "adapters": adapted.signature["adapters"]} == adapted.signature
    personal.train_adapters(checkpoint, examples(), tmp_path, replace(quick(), seed=1))
    other = TransformersPolicy(checkpoint, adapters=tmp_path)
    assert other.signature["adapters"] != adapted.signature["adapters"]


def test_adapters_of_another_base_are_refused(trained, tmp_path):
    other = tiny.save(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="adapters made for another base"):
        TransformersPolicy(other, adapters=trained[0]).sample(PROMPTS, 1, seed=0)


def test_bad_folders_and_files_are_named(checkpoint, trained, tmp_path):
    with pytest.raises(InputError, match=r"adapters\.json: found no adapters"):
        TransformersPolicy(checkpoint, adapters=tmp_path).sample(PROMPTS, 1, seed=0)
    for name, data in files(trained[0]).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "adapters.json").write_text((trained[0] / "adapters.json").read_text())
    (tmp_path / adapter_files.file_of("bob")).write_bytes(files(trained[0])[adapter_files.file_of("bob")][:-9])
    with pytest.raises(InputError, match=r"found no adapter .* expected a whole file"):
        TransformersPolicy(checkpoint, adapters=tmp_path).sample(PROMPTS, 1, seed=0)
    (tmp_path / adapter_files.file_of("ann")).unlink()
    with pytest.raises(InputError, match="expected the file"):
        TransformersPolicy(checkpoint, adapters=tmp_path).sample(PROMPTS, 1, seed=0)
    with pytest.raises(InputError, match="no layers to adapt"):
        personal.train_adapters(checkpoint, examples(), tmp_path, replace(quick(), targets=("nowhere",)))
    with pytest.raises(InputError, match="no example of at most 3 tokens"):
        personal.train_adapters(checkpoint, examples(), tmp_path, replace(quick(), limit=3))
    with pytest.raises(InputError, match=r"Lora\.rank"):
        personal.LoraSettings(rank=0)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from bestfor.policies import adapters as personal
from bestfor.policies.adapters import Example, LoraSettings, train_adapters

save = personal.Trainer._save
def killed(self, path, name, notes):
    if notes.get("user") == "bob":
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, path, name, notes)
personal.Trainer._save = killed
train_adapters(sys.argv[1], eval(sys.argv[2]), Path(sys.argv[3]), eval(sys.argv[4]))
"""


@pytest.mark.slow
def test_a_training_killed_outright_goes_on_with_the_next_user(checkpoint, both, forks, tmp_path, monkeypatch):
    config = replace(quick(), shared_steps=3)
    code, said = forks.run(SCRIPT, checkpoint, repr(examples()), tmp_path, repr(config))
    assert code == -signal.SIGKILL, said
    assert set(files(tmp_path)) == {"shared.safetensors", adapter_files.file_of("ann")}
    with pytest.raises(InputError, match="no adapters"):
        adapter_files.AdapterFolder(tmp_path, both[1]["base"])
    taught = []
    fit = personal.Trainer._fit
    monkeypatch.setattr(
        personal.Trainer, "_fit", lambda self, name, user, *rest: taught.append(user) or fit(self, name, user, *rest)
    )
    assert personal.train_adapters(checkpoint, examples(), tmp_path, config) == both[1]
    assert taught == ["bob", "c/../ünï"]
    assert files(tmp_path) == files(both[0])


def test_other_settings_or_texts_are_trained_anew(checkpoint, trained, tmp_path):
    personal.train_adapters(checkpoint, examples(), tmp_path, replace(quick(), steps=2))
    personal.train_adapters(checkpoint, examples(), tmp_path, quick())
    assert files(tmp_path) == files(trained[0])
    before = files(tmp_path)
    personal.train_adapters(checkpoint, {**examples(), "bob": examples()["bob"][:1]}, tmp_path, quick())
    assert [name for name, data in files(tmp_path).items() if data != before[name]] == [adapter_files.file_of("bob")]
    assert json.loads((Path(tmp_path) / "adapters.json").read_text())["users"]["bob"]["examples"] == 1


def test_a_training_that_leaves_the_numbers_is_an_error_that_names_the_user(tmp_path):
    settings = replace(quick(), rate=1e30)
    with pytest.raises(
        InputError, match="adapter of 'ann': found NaN or infinite numbers after 4 steps; expected a lower"
    ):
        personal.train_adapters("embedded", {"ann": examples()["ann"]}, tmp_path, settings)
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(InputError, match=r"no layers to adapt .*; expected targets among \['down_proj', .*'v_proj'\]"):
        personal.train_adapters("embedded", examples(), tmp_path, replace(quick(), targets=("nope",)))


@pytest.mark.parametrize(
    "change",
    [
        {"users": {"ann": 3}},
        {"users": []},
        {"users": {"ann": {"file": "../ann.safetensors"}}},
        {"settings": {"alpha": 1}},
        {"settings": {"alpha": "1", "rank": 2}},
        {"settings": {"alpha": 1, "rank": 0}},
        {"base": 3},
    ],
)
def test_an_index_that_somebody_has_changed_is_one_line(tmp_path, change):
    index = {"base": "0123", "users": {"ann": {"file": "ann.safetensors"}}, "settings": {"alpha": 1, "rank": 2}}
    (tmp_path / "adapters.json").write_text(json.dumps(index))
    assert adapter_files.AdapterFolder(tmp_path, "0123").index == index
    (tmp_path / "adapters.json").write_text(json.dumps(index | change))
    with pytest.raises(InputError, match=r"adapters\.json: found no adapters \(\w+\); expected a folder of adapters"):
        adapter_files.AdapterFolder(tmp_path, "0123")


def test_adapters_of_nobody_are_not_exported(tmp_path):
    index = {"base": fingerprint(locate("embedded")), "users": {}, "settings": {"alpha": 1, "rank": 2}}
    (tmp_path / "adapters.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="found adapters of no user"):
        personal.export_gguf(tmp_path, tmp_path / "out", base="embedded")
    (tmp_path / "users.json").write_text('{"files": 3}')
    with pytest.raises(InputError, match=r"users\.json: found 'files' of type int; expected adapters in GGUF as"):
        ServedAdapters.read(tmp_path)
