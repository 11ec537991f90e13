import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from bestfor.encoders import distilling
from bestfor.errors import InputError
from support import later
from support.toy_bert import CLS, REAL, SEP, WORDS, toy_bert

hidden = later("bestfor.encoders.hidden", "torch")
torch = later("torch")
transformers = later("transformers")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return hidden.HiddenEncoder(toy_bert(tmp_path_factory.mktemp("teacher")), name="toy")


@pytest.fixture(scope="module")
def made(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "toy"
    distilling.make_table(teacher, folder, work=folder.with_name("work"), components=5)
    return folder


def of_tokens(teacher):
    """The teacher's vector of each real token, one text at a time and without this package's batches."""
    rows = []
    for place in REAL:
        with torch.no_grad():
            states = teacher._model(torch.tensor([[CLS, place, SEP]])).last_hidden_state[0]
        mean = states.mean(0).numpy()
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows)


def test_tokens_are_encoded_among_special_ones(teacher):
    np.testing.assert_allclose(teacher.encode_tokens(REAL), of_tokens(teacher), atol=1e-6)
    np.testing.assert_array_equal(teacher.encode_tokens(REAL[3:5]), teacher.encode_tokens(REAL)[3:5])


def test_the_table_is_that_of_the_formulas(teacher, made):
    table = load_file(made / "model.safetensors")["embeddings"]
    vectors = of_tokens(teacher).astype(float)
    centred = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    odds = 1 / (np.arange(len(REAL)) + 2)
    expected = centred @ axes[:5].T * (1e-4 / (1e-4 + odds / odds.sum()))[:, None]
    assert table.shape == (len(WORDS), 5)
    assert not table[[place for place in range(len(WORDS)) if place not in REAL]].any()
    # the sign of a component is free
    signs = np.sign((table[REAL] * expected).sum(0))
    np.testing.assert_allclose(table[REAL] * signs, expected, rtol=1e-3, atol=1e-8)


def test_equal_bytes_each_time_and_what_was_made_is_not_made_again(teacher, made, tmp_path, monkeypatch):
    monkeypatch.setattr(distilling, "CHUNK", 2)
    encode, calls = teacher.encode_tokens, []

    def stopped(ids):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(list(ids))
        return encode(ids)

    monkeypatch.setattr(teacher, "encode_tokens", stopped)
    with pytest.raises(KeyboardInterrupt):
        distilling.make_table(teacher, tmp_path / "table", work=tmp_path / "work", components=5)
    assert not (tmp_path / "table").exists()
    done = {one for call in calls for one in call}
    again = []
    monkeypatch.setattr(teacher, "encode_tokens", lambda ids: [again.extend(ids), encode(ids)][1])
    distilling.make_table(teacher, tmp_path / "table", work=tmp_path / "work", components=5)
    assert len(done) == 4
    assert set(again) == set(REAL) - done
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table"]
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "table" / file).read_bytes() == (made / file).read_bytes()


def test_the_table_says_what_it_was_made_of(teacher, made):
    stamp = json.loads((made / "config.json").read_text())["bestfor"]
    assert (stamp["teacher"], stamp["teacher_signature"]) == ("toy", teacher.signature)
    assert set(stamp["files"]) == {"model.safetensors", "tokenizer.json"}


def test_signs_of_components_are_settled():
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(50, 6)).astype(np.float32)
    first = distilling.principal(vectors, 4)
    np.testing.assert_array_equal(first, distilling.principal(vectors.copy(), 4))
    assert first.shape == (50, 4)
    assert np.all(np.diff(first.var(axis=0)) <= 0)


def test_a_teacher_without_a_tokenizer_file_is_refused(tmp_path):
    class Bare:
        name, dim, tokenizer = "bare", 4, object()

    with pytest.raises(InputError, match=r"'static:bare': found a teacher whose tokenizer has no tokenizer\.json"):
        distilling.make_table(Bare(), tmp_path / "table", work=tmp_path / "work")
