import hashlib
import logging
import warnings

import numpy as np
import pytest

from bestfor import rng
from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from support import later, needs

modules = later("sentence_transformers.sentence_transformer.modules")
onnx = later("bestfor.encoders.onnx", "torch")
sentence_transformers = later("sentence_transformers")
tokenizers = later("tokenizers")
torch = later("torch")
transformers = later("transformers")


needs("onnxruntime", "onnx")

WORDS = ["maps", "of", "rivers", "that", "nobody", "has", "drawn", "before", "the", "long", "winter"]

NAMES = ["input_ids", "token_type_ids", "attention_mask"]


@pytest.fixture(scope="module")
def texts():
    draw = rng.derive(0, "onnx")
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 70))) for _ in range(30)] + [""]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small random sentence-transformers model: two layers, mean pooling, unit length."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(
        folder / "body"
    )
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder / "body")
    body = modules.Transformer(str(folder / "body"), max_seq_length=64)
    sentence_transformers.SentenceTransformer(
        modules=[body, modules.Pooling(32, "mean"), modules.Normalize()], device="cpu"
    ).save(str(folder / "whole"))
    return str(folder / "whole")


@pytest.fixture(scope="module")
def backends(model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        names = {"torch": model, "onnx": f"onnx:{model}", "onnx-int8": f"onnx-int8:{model}"}
        return {backend: load_encoder(name).encoder for backend, name in names.items()}


def test_float32_vectors_are_those_of_torch(backends, texts):
    np.testing.assert_allclose(backends["onnx"].encode(texts), backends["torch"].encode(texts), atol=5e-6)


def test_eight_bits_point_the_same_way(backends, texts):
    left, right = backends["onnx-int8"].encode(texts), backends["torch"].encode(texts)
    cosine = np.sum(left * right, axis=1)
    assert cosine.min() > 0.97
    assert np.abs(left - right).max() > 1e-5, "these would be the float32 vectors"


@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_company_and_threads_do_not_change_a_bit(backends, texts, backend):
    encoder = backends[backend]
    whole = encoder.encode(texts)
    order = rng.derive(0, "company").permutation(len(texts))
    for workers in (1, 3):
        encoder.workers = workers
        np.testing.assert_array_equal(encoder.encode([texts[code] for code in order]), whole[order])
        np.testing.assert_array_equal(encoder.encode(texts[:1]), whole[:1])


def test_signatures_tell_backends_apart(backends):
    assert len({encoder.signature for encoder in backends.values()}) == 3


class Tiny:
    """A random transformer of a few hundred weights, in the shape of a first module."""

    def __init__(self):
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12
        )
        self.auto_model = transformers.BertModel(config, add_pooling_layer=False).eval()

    def __call__(self, features):
        return {**features, "token_embeddings": self.auto_model(**features).last_hidden_state}


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


def test_a_graph_is_kept_checked_and_made_again_silently(tiny, tmp_path, monkeypatch, caplog, capfd):
    onnx.OnnxBody(tiny, NAMES, "key", folder=tmp_path)
    (path,) = onnx._place("key", NAMES, False, tmp_path).glob("*.onnx")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "_export", None)
        onnx.OnnxBody(tiny, NAMES, "key", folder=tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    handlers = list(logging.getLogger().handlers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx.OnnxBody(tiny, NAMES, "key", folder=tmp_path)
    assert path.read_bytes() == whole, "the same export gives the same bytes"
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger().handlers == handlers
    assert tiny.auto_model.config._attn_implementation == "sdpa"


def test_a_graph_that_differs_from_its_model_is_refused_and_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "SLACK", 0.0)
    with pytest.raises(InputError, match="other vectors at 1 x 8 tokens; expected the model's own; use 'torch'"):
        onnx.OnnxBody(tiny, NAMES, "key", folder=tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_model_without_onnx_form_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "OPSET", 5)
    with pytest.raises(InputError, match="has no ONNX form"):
        onnx.OnnxBody(tiny, NAMES, "key", folder=tmp_path)
