import json

import numpy as np
import pytest

from bestfor import artifacts
from bestfor.errors import InputError

ARRAYS = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([1, 2], dtype=np.int64)}


def test_round_trip_keeps_bits_types_and_hash(tmp_path):
    digest = artifacts.write(tmp_path / "m", {"kind": "x", "n": 3}, ARRAYS)
    found = artifacts.read(tmp_path / "m")
    assert found.config == {"kind": "x", "n": 3}
    assert found.digest == digest
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], values)
        assert found.arrays[name].dtype == values.dtype


def test_hash_depends_on_content_only(tmp_path):
    first = artifacts.write(tmp_path / "1", {"p": 1, "q": 2}, ARRAYS)
    assert artifacts.write(tmp_path / "2", {"q": 2, "p": 1}, dict(reversed(ARRAYS.items()))) == first
    assert artifacts.write(tmp_path / "3", {"p": 1, "q": 3}, ARRAYS) != first
    assert artifacts.write(tmp_path / "4", {"p": 1, "q": 2}, {**ARRAYS, "a": np.array([1, 3])}) != first


def test_replacing_leaves_one_model_and_no_litter(tmp_path):
    artifacts.write(tmp_path, {"n": 1}, ARRAYS)
    artifacts.write(tmp_path, {"n": 2}, {"a": np.zeros(4)})
    assert artifacts.read(tmp_path).config == {"n": 2}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_write_that_dies_leaves_the_old_model(tmp_path, monkeypatch):
    artifacts.write(tmp_path, {"n": 1}, ARRAYS)
    real = artifacts.write_bytes

    def dies(path, payload):
        if path.name == artifacts.CONFIG_FILE:
            raise KeyboardInterrupt
        real(path, payload)

    monkeypatch.setattr(artifacts, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        artifacts.write(tmp_path, {"n": 2}, {"a": np.zeros(4)})
    assert artifacts.read(tmp_path).config == {"n": 1}


def test_nan_in_the_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        artifacts.write(tmp_path, {"n": float("nan")}, ARRAYS)


def change(path, **changes):
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "another format"),
        (lambda folder: change(folder / "config.json", format="other"), "another format"),
        (lambda folder: change(folder / "config.json", version=99), "version 99"),
        (lambda folder: change(folder / "config.json", weights=None), "no 'weights'"),
        (lambda folder: next(folder.glob("*.safetensors")).unlink(), "the weights that config.json names"),
        (lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"short"), "damaged or foreign"),
    ],
)
def test_damage_is_one_clear_line(tmp_path, damage, message):
    artifacts.write(tmp_path, {"n": 1}, ARRAYS)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        artifacts.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_outside_the_folder_are_never_read(tmp_path):
    artifacts.write(tmp_path / "m", {"n": 1}, ARRAYS)
    artifacts.write(tmp_path / "other", {"n": 1}, {"a": np.zeros(2)})
    other = next((tmp_path / "other").glob("*.safetensors"))
    change(tmp_path / "m" / "config.json", weights={"file": f"../other/{other.name}", "sha256": "0"})
    with pytest.raises(InputError, match="no file 'weights-"):
        artifacts.read(tmp_path / "m")
