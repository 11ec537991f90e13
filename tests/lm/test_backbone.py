import json
import shutil
from pathlib import Path

import pytest

from bestfor.errors import InputError
from support import later

states = later("bestfor.lm.states", "torch")


def read(backbone, tokens):
    return backbone.tokenizer.decode(list(tokens))


def test_an_input_is_read_as_the_chat_template_puts_it(backbones):
    backbone = backbones("qwen2")
    prompt, first, second = backbone.encode("q", "a plain question", ["one answer", "two"])
    end = backbone.tokenizer.eos_token_id
    assert first[-1] == second[-1] == end
    assert "one answer" in read(backbone, first)
    chat = [{"role": "user", "content": "a plain question"}]
    assert read(backbone, prompt) == backbone.tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True
    )


def test_a_candidate_without_words_has_a_token(backbones):
    _, empty = backbones("qwen2").encode("q", "a question", [""])
    assert len(empty) == 1
    bert = backbones("bert")
    prompt, empty = bert.encode("q", "a question", [""])
    assert prompt
    assert empty == (bert.pad,)


def test_encoders_read_no_chat(backbones):
    bert = states.Backbone(backbones("bert").name)
    bert.tokenizer.chat_template = None
    prompt, text = bert.encode("q", "a question", ["an answer"])
    assert prompt == tuple(bert.tokenizer("a question")["input_ids"])
    assert text == tuple(bert.tokenizer("an answer", add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", ["qwen2", "bert"])
def test_what_is_too_long_is_cut_where_it_matters_least(backbones, name):
    backbone = states.Backbone(backbones(name).name, limit=40)
    long = " ".join(f"word{place}" for place in range(200))
    shown = ["the newest of them", "the older one of both", "the oldest that there is"]
    prompt, text = backbone.encode("long", long, ["a short answer"])
    assert len(prompt) + len(text) <= 40
    assert "word0" in read(backbone, prompt)
    assert backbone.shortened == {"long"}
    whole = backbone.encode("short", "brief", ["a short answer"], shown[:1])
    cut = backbone.encode("many", "brief", ["a short answer"], shown * 20)
    assert len(cut[0]) + len(cut[1]) <= 40
    assert len(cut[0]) >= len(whole[0])
    # earlier texts go before anything of the input does, the oldest first
    for piece in ("brief", "newest"):
        assert piece in read(backbone, cut[0])
    assert backbone.shortened == {"long", "many"}


def test_a_text_that_leaves_no_room_is_bad_input(backbones):
    backbone = states.Backbone(backbones("qwen2").name, limit=24)
    with pytest.raises(InputError, match=r"query 'q': found a text of \d+ tokens; expected at most 16") as caught:
        backbone.encode("q", "a question that is somewhat longer than that", ["word " * 40])
    assert "\n" not in str(caught.value)


def test_a_limit_beyond_the_models_is_bad_input(backbones):
    with pytest.raises(InputError, match="found 513 tokens; expected at most 512, which the model takes"):
        states.Backbone(backbones("qwen2").name, limit=513)


def test_prompts_without_a_template(backbones):
    backbone = states.Backbone(backbones("qwen2").name)
    backbone.tokenizer.chat_template = None
    prompt, _ = backbone.encode("q", "a question", ["an answer"])
    assert read(backbone, prompt).endswith("a question\n\n")
    assert backbone.encode("q", "", ["an answer"])[0] == ()


def test_the_same_files_have_the_same_fingerprint(backbones):
    first, second = states.Backbone(backbones("qwen2").name), states.Backbone(backbones("qwen3").name)
    assert first.fingerprint == backbones("qwen2").fingerprint != second.fingerprint
    assert first.hidden == 16


def test_weights_that_are_a_pickle_are_refused(backbones, tmp_path):
    """No fingerprint covers them, and a pickle may hold code."""
    folder = Path(shutil.copytree(backbones("qwen2").name, tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no usable model .*with its weights as safetensors"):
        _ = states.Backbone(str(folder)).model


def test_code_in_a_checkpoint_is_neither_run_nor_asked_about(backbones, tmp_path, monkeypatch, capfd):
    folder, path = Path(shutil.copytree(backbones("qwen2").name, tmp_path / "coded")), tmp_path / "ran"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    settings = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "own", "auto_map": code}))
    (folder / "own.py").write_text(f"open({str(path)!r}, 'w').close()")
    with pytest.raises(InputError, match="no usable model") as caught:
        states.Backbone(str(folder))
    assert not path.exists()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""
