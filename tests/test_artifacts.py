import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

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


NAMES = ("ada", "b/o b", "émile", "李")
PERSONAL = {
    "shared": np.arange(3.0),
    "user.flat": np.arange(8.0).reshape(4, 2),
    "user.ragged": np.arange(12, dtype=np.float32).reshape(6, 2),
    "user.ragged.ends": np.array([0, 2, 2, 5, 6]),
}


def test_users_are_read_alone(tmp_path):
    digest = artifacts.write(tmp_path, {"n": 1}, PERSONAL, NAMES)
    whole = artifacts.read(tmp_path)
    assert whole.users == NAMES
    assert set(whole.arrays) == set(PERSONAL)
    part = artifacts.read(tmp_path, users=["李", "nobody", "b/o b", "zoë", ""])
    assert (part.users, part.digest) == (("b/o b", "李"), digest)
    np.testing.assert_array_equal(part.arrays["shared"], PERSONAL["shared"])
    np.testing.assert_array_equal(part.arrays["user.flat"], PERSONAL["user.flat"][[1, 3]])
    np.testing.assert_array_equal(part.arrays["user.ragged"], PERSONAL["user.ragged"][5:])
    np.testing.assert_array_equal(part.arrays["user.ragged.ends"], [0, 0, 1])
    assert artifacts.read(tmp_path, users=[]).arrays["user.flat"].shape == (0, 2)
    assert artifacts.read_config(tmp_path) == {"n": 1}


@pytest.mark.parametrize(("place", "message"), [("user.ragged", "rows of user number 2"), ("shared", "'shared'")])
def test_damage_is_found_in_what_is_read(tmp_path, place, message):
    artifacts.write(tmp_path, {"n": 1}, PERSONAL, NAMES)
    weights = next(tmp_path.glob("*.safetensors"))
    payload = bytearray(weights.read_bytes())
    header = int.from_bytes(payload[:8], "little")
    start = json.loads(payload[8 : 8 + header])[place]["data_offsets"][0] + 8 + header
    payload[start + 2 * 8] ^= 1
    weights.write_bytes(bytes(payload))
    with pytest.raises(InputError, match=message):
        artifacts.read(tmp_path, users=["émile"])
    if place == "user.ragged":
        assert artifacts.read(tmp_path, users=["李"]).users == ("李",)
    with pytest.raises(InputError, match="damaged or foreign"):
        artifacts.read(tmp_path)


@pytest.mark.parametrize(
    ("users", "arrays", "message"),
    [
        (("b", "a"), {}, "do not ascend"),
        (("a", "a"), {}, "do not ascend"),
        (("a",), PERSONAL, "4 rows for 1 users"),
        ((), PERSONAL, "without users"),
    ],
)
def test_rows_and_users_must_agree(tmp_path, users, arrays, message):
    with pytest.raises(ValueError, match=message):
        artifacts.write(tmp_path, {}, {"shared": np.zeros(1), **arrays}, users)


def test_one_of_many_users_does_not_read_the_others(tmp_path, monkeypatch):
    """Bytes asked for, and pages of the file that came into memory: of 200,000 users for one of them."""
    count = 200_000
    users = [f"person-{code:07d}" for code in range(count)]
    arrays = {"user.weights": np.random.default_rng(0).normal(size=(count, 48)), "shared": np.ones(100)}
    artifacts.write(tmp_path, {}, arrays, users)
    size = next(tmp_path.glob("*.safetensors")).stat().st_size
    asked, resident = [], []

    class Slice:
        def __init__(self, inner):
            self.inner = inner

        def get_shape(self):
            return self.inner.get_shape()

        def __getitem__(self, rows):
            found = self.inner[rows]
            asked.append(found.nbytes)
            return found

    class Counting:
        def __init__(self, path, framework):
            self.inner = safe_open(path, framework=framework)

        def __enter__(self):
            self.handle = self.inner.__enter__()
            return self

        def __exit__(self, *error):
            resident.append(resident_bytes(str(tmp_path.resolve())))
            return self.inner.__exit__(*error)

        def keys(self):
            return self.handle.keys()

        def get_tensor(self, name):
            return self.handle.get_tensor(name)

        def get_slice(self, name):
            return Slice(self.handle.get_slice(name))

    monkeypatch.setattr(artifacts, "safe_open", Counting)
    found = artifacts.read(tmp_path, users=["person-0123456"])
    np.testing.assert_array_equal(found.arrays["user.weights"], arrays["user.weights"][[123456]])
    assert size > 80_000_000
    assert sum(asked) < 2_000
    assert resident[0] < size / 10


def resident_bytes(folder):
    """Memory of this process that maps files of a folder."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
            inside = folder in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


MODELS = [
    ({"n": n}, {**PERSONAL, "shared": np.full(64, float(n)), "user.flat": PERSONAL["user.flat"] + n}) for n in range(3)
]
SAVER = """
import runpy, sys
from pathlib import Path
from bestfor import artifacts
here = runpy.run_path(sys.argv[1])
folder, times = Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for turn in range(times):
    config, arrays = here["MODELS"][turn % 3]
    artifacts.write(folder, config, arrays, here["NAMES"])
"""


def savers(folder, times, count=1):
    """Processes that save one of three models after the other, once all are ready."""
    words = [sys.executable, "-c", SAVER, __file__, str(folder), str(times)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(words, **pipes) for _ in range(count)]
    for one in started:
        assert one.stdout.readline() == "ready\n"
    for one in started:
        one.stdin.write("go\n")
        one.stdin.flush()
    return started


def ended(processes):
    for one in processes:
        one.stdin.close()
        one.stdout.close()
    return [one.wait() for one in processes]


def test_readers_never_fail_beside_a_writer(tmp_path):
    digests = [artifacts.write(tmp_path, config, arrays, NAMES) for config, arrays in MODELS]
    processes = savers(tmp_path, 200)
    seen, loads = set(), 0
    while loads < 2000 or processes[0].poll() is None:
        some = None if loads % 2 else ["b/o b", "李"]
        found = artifacts.read(tmp_path, users=some)
        n = found.config["n"]
        assert found.digest == digests[n]
        rows = slice(None) if some is None else [1, 3]
        np.testing.assert_array_equal(found.arrays["shared"], MODELS[n][1]["shared"])
        np.testing.assert_array_equal(found.arrays["user.flat"], MODELS[n][1]["user.flat"][rows])
        seen.add(n)
        loads += 1
    assert ended(processes) == [0]
    assert seen == {0, 1, 2}


def test_writers_of_one_folder_wait_for_each_other(tmp_path):
    processes = savers(tmp_path, 40, count=2)
    assert ended(processes) == [0, 0]
    assert artifacts.read(tmp_path).config in [config for config, _ in MODELS]
    assert len(list(tmp_path.iterdir())) == 2
