import importlib.util
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bestfor.data.candidates import History
from bestfor.errors import InputError
from bestfor.rewards import Lora, load
from bestfor.testing.rewards import assert_same, taste_examples
from support import later
from support.lora import SHORT, bert, qwen, save

adapter_files = later("bestfor.lm.adapter_files", "torch")
held_out = later("bestfor.rewards.lora.held_out", "torch")
torch = later("torch")


EXAMPLES = taste_examples(users=4, queries=3, candidates=6, seed=5)
SURE = {"held_out": 0.0, "user_epochs": 2, "user_rate": 0.02, "rate": 0.02}
"""Adapters are trained and told apart, whatever held-out labels would say."""


def fitted(backbone, **options):
    return Lora(backbone=backbone, **{**SHORT, **SURE, **options}).fit(EXAMPLES, rng=0)


def stored(folder):
    return sorted(path.name for path in folder.rglob("adapters-*/*.safetensors"))


@pytest.mark.parametrize(("level", "files"), [("both", 5), ("user", 4), ("global", 1)])
def test_levels(level, files, small, tmp_path):
    model = fitted(small, level=level)
    model.save(tmp_path)
    assert len(stored(tmp_path)) == files
    mine = EXAMPLES.take(EXAMPLES.user == 1)
    served = {
        name: model.predict(replace(mine, users=tuple(name if user == "u1" else user for user in mine.users))).mean
        for name in ("u1", "u2", "nobody", "somebody")
    }
    assert np.all(served["nobody"] == served["somebody"])
    assert np.any(served["u1"] != served["nobody"])
    assert np.any(served["u1"] != served["u2"])
    served_by = "the heads that all users share" if level == "user" else "what all users share"
    asked = replace(mine, users=tuple("nobody" if user == "u1" else user for user in mine.users))
    assert model.predict(asked).notes == (f"1 user without fit labels was served by {served_by}",)


def test_with_nothing_of_their_own_everybody_is_served_alike(small):
    model = fitted(small, level="global", own_heads=False)
    mine = EXAMPLES.take(EXAMPLES.user == 1)
    assert_same(model.predict(mine), model.predict(replace(mine, users=("a", "b", "c", "d"))))


def test_scales(small, tmp_path):
    pairs, gaussian, point = (fitted(small, loss=loss) for loss in ("bradley_terry", "gaussian", "point"))
    assert (pairs.scale, gaussian.scale, point.scale, Lora.scale) == ("arbitrary", "utility", "utility", "utility")
    assert [model.predict(EXAMPLES).std is None for model in (pairs, gaussian, point)] == [True, False, True]
    pairs.save(tmp_path)
    assert load(tmp_path).scale == "arbitrary"


def test_who_abstains_has_no_file(small, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "abstaining", lambda user, personal, shared: np.arange(int(user.max()) + 1) % 2 == 0)
    model = fitted(small, held_out=0.34, rate=1e-3, user_rate=1e-3)
    assert model.abstained == ("u0", "u2")
    model.save(tmp_path)
    own = model._passes["own"] > 0
    assert len(stored(tmp_path)) == 2 * own + (model._passes["shared"] > 0)
    assert fitted(small, held_out=0.34, abstain=False).abstained == ()


def test_users_with_few_labels_have_no_adapter(small, tmp_path):
    few = EXAMPLES.take((EXAMPLES.user != 1) | (EXAMPLES.candidate == 0))
    Lora(backbone=small, **{**SHORT, **SURE}).fit(few, rng=0).save(tmp_path)
    assert len(stored(tmp_path)) == 4


@pytest.mark.slow
def test_a_model_in_the_place_of_another(small, tmp_path):
    first, second = fitted(small), fitted(small, level="global")
    first.save(tmp_path)
    before = first.predict(EXAMPLES)
    second.save(tmp_path)
    # what is still read stays until the next save
    assert_same(first.predict(EXAMPLES), before)
    del first
    second.save(tmp_path)
    assert len(list(tmp_path.glob("adapters-*"))) == 1
    assert_same(load(tmp_path).predict(EXAMPLES), second.predict(EXAMPLES))
    again = fitted(small)
    again.save(tmp_path)
    digest = again.save(tmp_path)
    assert load(tmp_path).save(tmp_path / "copy") == digest
    assert_same(load(tmp_path / "copy").predict(EXAMPLES), before)


def test_an_adapter_that_was_changed_is_refused(small, tmp_path):
    fitted(small).save(tmp_path)
    path = sorted(tmp_path.rglob("adapters-*/*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(InputError, match="sha256"):
        load(tmp_path).predict(EXAMPLES)
    path.unlink()
    with pytest.raises(InputError, match="no file"):
        load(tmp_path).predict(EXAMPLES)


def test_one_user_needs_no_other_users_file(small, tmp_path):
    model = fitted(small)
    model.save(tmp_path)
    mine = EXAMPLES.take(EXAMPLES.user == 3)
    expected = model.predict(mine)
    for path in tmp_path.rglob("adapters-*/*.safetensors"):
        if path.name not in (adapter_files.SHARED, adapter_files.file_of("u3")):
            path.unlink()
    assert_same(load(tmp_path, user="u3").predict(mine), expected)


def test_another_base_is_refused_by_its_hash(small, tmp_path):
    folder = save(qwen(hidden_size=8, intermediate_size=8, num_hidden_layers=1), tmp_path / "base")
    fitted(str(folder)).save(tmp_path / "model")
    assert np.all(np.isfinite(load(tmp_path / "model").predict(EXAMPLES).mean))
    save(qwen(hidden_size=8, intermediate_size=8, num_hidden_layers=1), folder, seed=1)
    with pytest.raises(InputError, match=r"backbone .*: found adapters for another base .*; expected those of this"):
        load(tmp_path / "model")


def test_an_encoder_is_a_backbone(tmp_path):
    folder = str(save(bert(), tmp_path / "bert"))
    model = fitted(folder, targets=("all-linear",), user_targets=())
    model.save(tmp_path / "model")
    estimate = load(tmp_path / "model").predict(EXAMPLES)
    assert_same(estimate, model.predict(EXAMPLES))
    assert len(np.unique(estimate.mean)) > len(EXAMPLES) // 2


@pytest.mark.slow
def test_half_precision(qwen2, tmp_path):
    whole, half = (fitted(qwen2, dtype=dtype, rate=1e-3, user_rate=1e-3) for dtype in ("float32", "bfloat16"))
    assert half.backbone.model.dtype == torch.bfloat16
    one, other = (model.predict(EXAMPLES).mean for model in (whole, half))
    assert np.all(np.isfinite(other))
    assert np.corrcoef(one, other)[0, 1] > 0.98
    half.save(tmp_path)
    assert_same(load(tmp_path).predict(EXAMPLES), half.predict(EXAMPLES))


def test_a_checkpoint_without_a_pad_token(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "bare")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    model = fitted(str(folder))
    assert model.backbone.tokenizer.pad_token_id is None
    assert_same(model.predict(EXAMPLES), fitted(small).predict(EXAMPLES))


def test_what_is_too_long(small):
    long = replace(EXAMPLES, inputs=tuple("word " * 400 for _ in EXAMPLES.inputs))
    model = Lora(backbone=small, **{**SHORT, **SURE}).fit(long, rng=0)
    cut = "(earlier texts left out, the input cut at its end): prompt and text have at most 256 tokens together"
    assert f"12 prompts were shortened {cut}" in model.notes
    assert model.predict(long.take(np.arange(1))).notes[-1].startswith("1 prompt was shortened")
    texts = ("x y z " * 200, *EXAMPLES.texts[1:])
    first = int(np.flatnonzero(EXAMPLES.text == EXAMPLES.text[0])[0])
    texts = tuple("x y z " * 200 if code == EXAMPLES.text[first] else text for code, text in enumerate(EXAMPLES.texts))
    with pytest.raises(InputError, match=r"query 'q0': found a text of \d+ tokens; expected at most"):
        Lora(backbone=small, **SHORT).fit(replace(EXAMPLES, texts=texts), rng=0)
    with pytest.raises(InputError, match="limit: found 300 tokens; expected at most 256"):
        fitted(small, limit=300)


def test_layers_that_are_not_there(small):
    with pytest.raises(InputError, match=r"no layers to adapt .*expected some of .*k_proj.*v_proj"):
        fitted(small, targets=("attention",))


def test_earlier_texts_stand_in_the_prompt(small):
    texts = {user: ("quiet river", "old bridge", "long road") for user in EXAMPLES.users}
    wrote = replace(EXAMPLES, history=History(texts, dict.fromkeys(EXAMPLES.queries, 2)))
    later = replace(
        EXAMPLES,
        history=History(
            {user: (*t[:2], "never seen") for user, t in texts.items()}, dict.fromkeys(EXAMPLES.queries, 2)
        ),
    )
    model = Lora(backbone=small, items=2, **{**SHORT, **SURE}).fit(wrote, rng=0)
    estimate = model.predict(wrote)
    assert_same(estimate, model.predict(later))
    assert np.any(estimate.mean != model.predict(EXAMPLES).mean)


def test_equal_texts_of_a_query_tie_exactly(small):
    twice = EXAMPLES.take(np.concatenate([np.arange(len(EXAMPLES)), np.arange(6)]))
    twice.candidate[-6:] += 6
    mean = fitted(small).predict(twice).mean
    np.testing.assert_array_equal(mean[:6], mean[-6:])


def test_the_error_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"^backbone '.*nowhere': found no such folder"):
        Lora(backbone=str(tmp_path / "nowhere")).fit(EXAMPLES, rng=0)


def test_an_attention_that_is_not_installed(small):
    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("flash_attn is installed")
    with pytest.raises(
        InputError, match=r"attention: found 'flash_attention_2' .*; expected its package, or 'auto'"
    ) as caught:
        fitted(small, attention="flash_attention_2")
    assert "\n" not in str(caught.value)


def test_a_loaded_model_keeps_its_adapters_whatever_is_saved_in_its_place(small, tmp_path):
    models = [fitted(small), fitted(small, level="global")]
    expected = [model.predict(EXAMPLES) for model in models]
    models[0].save(tmp_path)
    read = [load(tmp_path)]
    for turn in (1, 0, 1):
        # as another process would: what is saved is read from a folder of its own
        models[turn].save(tmp_path / "own")
        load(tmp_path / "own").save(tmp_path)
        read.append(load(tmp_path))
    for model, turn in zip(read, (0, 1, 0, 1), strict=True):
        assert_same(model.predict(EXAMPLES), expected[turn])
