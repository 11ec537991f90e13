import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestfor.encoders.batches import Batched, assemble, padded, plan

LIMIT = 256


class Counting(Batched):
    """Words are tokens; a vector counts a text's tokens and the cells that its batch gave it."""

    dim, limit, batch_tokens = 2, LIMIT, 64

    def __init__(self, workers=1):
        self.workers, self.asked = workers, 0

    def _tokens(self, texts):
        self.asked += len(texts)
        ids = [[7] * min(LIMIT, len(text.split())) for text in texts]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}, {
            "input_ids": 0,
            "attention_mask": 0,
        }

    def _vectors(self, features):
        assert set(features) == {"input_ids", "attention_mask"}
        ids, mask = features["input_ids"], features["attention_mask"]
        assert np.array_equal(ids == 7, mask == 1)
        return np.stack([mask.sum(1), np.full(len(mask), mask.shape[1])], axis=1).astype(np.float32)


@given(st.integers(0, 400))
def test_padding_is_small_and_only_grows(length):
    size = padded(length, LIMIT)
    assert min(length, LIMIT) <= size <= LIMIT
    assert padded(length + 1, LIMIT) >= size
    assert padded(size, LIMIT) == size
    if 16 <= length <= LIMIT:
        assert size <= 1.25 * length


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 600), st.integers(1, 32))
def test_every_text_is_in_one_batch_whose_shape_is_its_own(lengths, tokens, most):
    batches = plan(lengths, limit=LIMIT, tokens=tokens, most=most)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch.rows) <= batch.size == max(1, min(most, tokens // batch.length))
        assert {padded(lengths[row], LIMIT) for row in batch.rows} == {batch.length}


def test_a_batch_is_padded_on_the_right_and_filled_with_copies():
    (batch,) = plan([2, 3], limit=LIMIT, tokens=24)
    found = assemble(batch, {"input_ids": [[5, 6], [7, 8, 9]]}, {"input_ids": 1})["input_ids"]
    assert found.tolist() == [[5, 6] + [1] * 6, [7, 8, 9] + [1] * 5, [5, 6] + [1] * 6]


@pytest.mark.parametrize("workers", [1, 3])
@given(lengths=st.lists(st.integers(0, 80), max_size=30))
def test_vectors_come_back_in_order_and_twins_are_encoded_once(workers, lengths):
    encoder = Counting(workers)
    texts = [" ".join(["w"] * length) for length in lengths]
    found = encoder.encode(texts)
    assert found.shape == (len(texts), 2)
    assert found[:, 0].tolist() == lengths
    assert found[:, 1].tolist() == [padded(length, LIMIT) for length in lengths]
    assert encoder.asked == len(set(texts))
