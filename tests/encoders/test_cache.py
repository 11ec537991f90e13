import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.encoders import cache
from bestfor.encoders.cache import CachedEncoder, text_key
from bestfor.errors import InputError


class Counting:
    name, signature, dim = "counting", "s" * 64, 3

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked.append(list(texts))
        return np.array([[len(text), text.count("a"), 1] for text in texts], dtype=np.float32).reshape(-1, 3)


@given(st.lists(st.lists(st.text(max_size=5), max_size=8), max_size=5))
def test_every_text_is_encoded_once_and_answers_match(calls):
    inner = Counting()
    cached = CachedEncoder(inner)
    for texts in calls:
        np.testing.assert_array_equal(cached.encode(texts), Counting().encode(texts))
    asked = [text for batch in inner.asked for text in batch]
    assert len(asked) == len(set(asked)) == len({text for texts in calls for text in texts})


def test_disk_serves_the_next_process(tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a", "bb"])
    inner = Counting()
    found = CachedEncoder(inner, tmp_path).encode(["bb", "new", "a"])
    assert inner.asked == [["new"]]
    np.testing.assert_array_equal(found, Counting().encode(["bb", "new", "a"]))


def test_another_encoder_does_not_see_these_vectors(tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a"])
    other = Counting()
    other.signature = "t" * 64
    CachedEncoder(other, tmp_path).encode(["a"])
    assert other.asked == [["a"]]


def test_torn_and_altered_shards_are_left_aside(tmp_path):
    CachedEncoder(Counting(), tmp_path).encode(["a"])
    CachedEncoder(Counting(), tmp_path).encode(["bb"])
    first, second = sorted((tmp_path / ("s" * 32)).glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-3])
    payload = second.read_bytes()
    second.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    inner = Counting()
    found = CachedEncoder(inner, tmp_path).encode(["a", "bb"])
    assert sorted(inner.asked[0]) == ["a", "bb"]
    np.testing.assert_array_equal(found, Counting().encode(["a", "bb"]))


def test_many_shards_are_merged_without_loss(tmp_path):
    texts = [f"text {number}" for number in range(cache.MERGE_SHARDS + 2)]
    for text in texts:
        cached = CachedEncoder(Counting(), tmp_path)
        cached._known = {}
        cached.encode([text])
    inner = Counting()
    CachedEncoder(inner, tmp_path).encode(texts)
    assert inner.asked == []
    assert len(list((tmp_path / ("s" * 32)).iterdir())) == 1


def test_many_small_calls_of_one_process_leave_few_files(tmp_path):
    texts = [f"text {number}" for number in range(3 * cache.MERGE_SHARDS)]
    cached = CachedEncoder(Counting(), tmp_path)
    for text in texts:
        cached.encode([text])
    assert len(list((tmp_path / ("s" * 32)).iterdir())) <= cache.MERGE_SHARDS + 3
    inner = Counting()
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(texts), Counting().encode(texts))
    assert inner.asked == []


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(cache, "MEMORY_TEXTS", 10)
    cached = CachedEncoder(Counting())
    for start in range(0, 100, 5):
        texts = [f"t{number}" for number in range(start, start + 5)]
        np.testing.assert_array_equal(cached.encode(texts), Counting().encode(texts))
    assert len(cached._known) <= 10


def test_no_texts_and_lone_surrogates():
    assert CachedEncoder(Counting()).encode([]).shape == (0, 3)
    assert text_key("\ud800") != text_key("\ud801")


def test_vectors_that_are_not_finite_are_refused_and_never_kept(tmp_path):
    class Broken:
        name, signature, dim = "broken", "b" * 64, 2

        def encode(self, texts):
            return np.array([[np.nan, 1.0] if "bad" in text else [0.0, 1.0] for text in texts], dtype=np.float32)

    cached = CachedEncoder(Broken(), tmp_path)
    cached.encode(["good"])
    with pytest.raises(InputError, match="in the vectors of 1 of 2 texts, such as 'bad text'; expected finite"):
        cached.encode(["bad text", "good", "another"])
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
