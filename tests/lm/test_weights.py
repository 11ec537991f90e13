"""Checkpoints that lack weights, or hold other ones than their configuration says, are refused in one line."""

import json
import shutil

import pytest

from bestfor.errors import InputError
from support import later, tiny

encoders = later("bestfor.encoders", "torch")
hidden = later("bestfor.encoders.hidden", "torch")
lm_states = later("bestfor.lm.states", "torch")
lm_checkpoint = later("bestfor.lm.checkpoint", "torch")
sampling = later("bestfor.lm.sampling", "torch")
weights = later("bestfor.lm.weights", "torch")
safetensors = later("safetensors.torch", "torch")
torch = later("torch")
transformers = later("transformers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def changed(whole, tmp_path):
    """Makes a copy of the checkpoint with other tensors."""

    def make(change):
        folder = shutil.copytree(whole, tmp_path / "changed", dirs_exist_ok=True)
        tensors = change(safetensors.load_file(whole / "model.safetensors"))
        kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
        safetensors.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def as_policy(folder):
    lm_checkpoint.Checkpoint(folder, device="cpu").model  # noqa: B018 - loads


def as_backbone(folder):
    lm_states.Backbone(str(folder), device="cpu").model  # noqa: B018 - loads


def as_hidden(folder):
    hidden.HiddenEncoder(str(folder), name="h", device="cpu")


READERS = [as_policy, as_backbone, as_hidden]


def refusal(read, folder):
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_fsdp_wrapped_module.", "net.core."])
@pytest.mark.parametrize("read", READERS)
def test_weights_under_other_names_are_refused(changed, read, prefix, capfd):
    folder = changed(lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    said = refusal(read, folder)
    assert "no weights for" in said
    assert f"'{prefix}" in said  # an example of what the files hold
    assert ("not its wrapper" in said) == (prefix in weights.WRAPPERS)
    assert "LOAD REPORT" not in capfd.readouterr().err


@pytest.mark.parametrize("read", READERS)
def test_one_lost_layer_is_enough(changed, read):
    folder = changed(lambda tensors: {name: one for name, one in tensors.items() if ".layers.0.mlp." not in name})
    said = refusal(read, folder)
    assert "no weights for 3 of" in said
    assert "layers.0.mlp.down_proj.weight" in said


@pytest.mark.parametrize("read", READERS)
def test_shapes_other_than_the_configuration_says_are_refused(changed, read):
    def resized(tensors):
        return {name: torch.cat([one, one[:3]]) if "embed_tokens" in name else one for name, one in tensors.items()}

    rows = len(tiny.tokenizer())
    said = refusal(read, changed(resized))
    assert f"of {rows + 3} x" in said
    assert f"expected {rows} x" in said


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(changed, read, value):
    def broken(tensors):
        return {name: torch.full_like(one, value) if name.endswith("norm.weight") else one for name, one in
                tensors.items()}  # fmt: skip

    assert "NaN or infinite numbers in" in refusal(read, changed(broken))


@pytest.mark.parametrize("read", READERS)
def test_a_checkpoint_without_its_tokenizer_is_refused(whole, tmp_path, read):
    """transformers makes a tokenizer without a vocabulary, by which all texts are one and the same."""
    folder = shutil.copytree(whole, tmp_path / "bare")
    for path in folder.glob("token*"):
        path.unlink()
    said = refusal(read, folder)
    assert "vocabulary" in said or "tokenizer" in said


@pytest.mark.parametrize("read", READERS)
def test_files_that_only_point_to_weights_are_refused(whole, tmp_path, read):
    folder = shutil.copytree(whole, tmp_path / "pointer")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "model.safetensors").write_text(pointer)
    assert "header" in refusal(read, folder)


def test_a_head_is_needed_by_those_who_write_and_by_nobody_else(tmp_path):
    config = transformers.Qwen3Config(
        vocab_size=len(tiny.tokenizer()), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=24, tie_word_embeddings=False,
    )  # fmt: skip
    transformers.Qwen3Model(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    as_backbone(tmp_path)
    as_hidden(tmp_path)
    assert "'lm_head.weight'" in refusal(as_policy, tmp_path)


def test_poolers_and_decoders_that_nobody_reads_may_be_missing(tmp_path):
    shape = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertForMaskedLM(transformers.BertConfig(**shape, intermediate_size=24))
    bert.save_pretrained(tmp_path / "bert")
    t5 = transformers.T5Config(vocab_size=320, d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=24)
    transformers.T5EncoderModel(t5).save_pretrained(tmp_path / "t5")
    for name in ("bert", "t5"):
        tiny.tokenizer().save_pretrained(tmp_path / name)
        as_hidden(tmp_path / name)


def test_tokens_without_an_embedding_are_refused_and_padding_is_not(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "added")
    tokenizer = transformers.AutoTokenizer.from_pretrained(whole)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    texts = ["the quiet river", "a short note on long roads and longer evenings", ""]
    expected = hidden.HiddenEncoder(str(whole), name="h", device="cpu").encode(texts[:2])
    assert (hidden.HiddenEncoder(str(folder), name="h", device="cpu").encode(texts)[:2] == expected).all()
    backbone = lm_states.Backbone(str(folder), device="cpu")
    assert backbone.pad < rows
    backbone.encode("q", "the river", texts)

    tokenizer.add_tokens(["<|thought|>"])
    tokenizer.save_pretrained(folder)
    wrong = (
        rf"token {rows + 1} of the tokenizer \('<\|thought\|>'\), which has no embedding; expected tokens below {rows}"
    )
    with pytest.raises(InputError, match=wrong):
        hidden.HiddenEncoder(str(folder), name="h", device="cpu").encode(["a <|thought|> b"])
    with pytest.raises(InputError, match=wrong):
        lm_states.Backbone(str(folder), device="cpu").encode("q", "a <|thought|> b", texts)
    policy = lm_checkpoint.Checkpoint(folder, device="cpu")
    ids = policy.encode([{"role": "user", "content": "a <|thought|> b"}])
    import numpy as np

    with pytest.raises(InputError, match=wrong):
        policy.run([ids], np.zeros((1, 1, 2)), (), temperature=1.0, top_p=1.0)


def test_logits_that_overflow_are_one_line(whole, monkeypatch):
    import numpy as np

    policy = lm_checkpoint.Checkpoint(whole, device="cpu")
    forward = type(policy.model).forward

    def overflowing(self, *args, **options):
        output = forward(self, *args, **options)
        output.logits = output.logits * float("inf")
        return output

    ids = policy.encode([{"role": "user", "content": "a river"}])
    assert policy.shares  # probed before
    monkeypatch.setattr(type(policy.model), "forward", overflowing)
    with pytest.raises(InputError, match=r"NaN or infinite logits .*expected finite ones"):
        policy.run([ids, ids[:-1]], np.zeros((2, 2, 2)), (), temperature=1.0, top_p=0.9)


def test_tokens_that_are_forbidden_are_no_overflow():
    import numpy as np

    logits = torch.tensor([[0.0, float("-inf"), 1.0]])
    tokens, logprob = sampling.draw(logits, np.array([[0.1, 0.9]]), 1.0, 1.0)
    assert tokens.tolist() == [[0, 2]]
    assert np.isfinite(logprob).all()


@pytest.mark.parametrize("text", ["[]", '"qwen3"', "{", '{"model_type": "qwen3", "num_hidden_layers": "two"}'])
@pytest.mark.parametrize("read", READERS)
def test_configurations_that_are_none_are_one_line(whole, tmp_path, text, read):
    folder = shutil.copytree(whole, tmp_path / "odd")
    (folder / "config.json").write_text(text)
    refusal(read, folder)


def test_a_broken_tokenizer_is_one_line(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "odd")
    found = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(found | {"model": {"type": "Unheard"}}))
    for read in READERS:
        refusal(read, folder)
