import numpy as np
import pytest

from bestfor.encoders import Encoder, load_encoder
from bestfor.encoders.joined import JoinedEncoder
from bestfor.encoders.reading import TokenCounts
from support import later

toy = later("support.toy_bert", "torch")


class Letters:
    """Counts letters; reads texts up to a length."""

    def __init__(self, letters, limit=100):
        self.name = self.signature = letters
        self.dim, self.limit = len(letters), limit

    def encode(self, texts):
        return np.array([[text.count(one) for one in self.name] for text in texts], dtype=np.float32)

    def reading(self, texts):
        cut = sum(len(text) > self.limit for text in texts)
        return TokenCounts(sum(map(len, texts)), 0, len(texts), cut, self.limit)


def test_inner_products_are_mean_cosines():
    parts = Letters("abc"), Letters("bcde")
    joined = JoinedEncoder(parts, name="joined")
    texts = ["aab", "cad", "bead", "zzz"]
    found = joined.encode(texts)
    assert isinstance(joined, Encoder)
    assert found.shape == (4, joined.dim) == (4, 7)
    units = [part.encode(texts) for part in parts]
    units = [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in units]
    np.testing.assert_allclose(found @ found.T, sum(one @ one.T for one in units) / 2, atol=1e-6)
    assert joined.signature != JoinedEncoder(parts[::-1], name="joined").signature


def test_what_one_part_reads_is_read():
    counts = JoinedEncoder([Letters("abc", limit=2), Letters("bcde", limit=9)], name="joined").reading(["aab", "b"])
    assert (counts.cut, counts.limit) == (0, 9)


def test_a_name_joins_encoders(tmp_path):
    pytest.importorskip("transformers")
    first, second = toy.toy_bert(tmp_path / "first"), toy.toy_bert(tmp_path / "second", seed=1)
    joined = load_encoder(f"hidden:{first} + hidden:{second}", cache=tmp_path / "cache")
    found = joined.encode(["the cold river", "tax"])
    parts = [load_encoder(f"hidden:{folder}").encode(["the cold river", "tax"]) for folder in (first, second)]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1) / np.sqrt(2), atol=1e-6)
    # each part is cached by itself
    assert len([one for one in (tmp_path / "cache").iterdir() if one.is_dir()]) == 2
