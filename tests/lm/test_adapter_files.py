import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bestfor.errors import InputError
from support import later

adapter_files = later("bestfor.lm.adapter_files", "torch")
safetensors_torch = later("safetensors.torch")
torch = later("torch")


BASE = "0123456789abcdef"
LAYER = "layers.0.self_attn.q_proj"
PAIR_BYTES = 4 * (2 * 6 + 4 * 2)


def layers(seed, rank=2, names=(LAYER,)):
    draw = torch.Generator().manual_seed(seed)
    return {name: (torch.randn(rank, 6, generator=draw), torch.randn(4, rank, generator=draw)) for name in names}


def product(found):
    return {layer: up @ down for layer, (down, up) in found.items()}


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read, in order."""
    found = []
    plain = Path.read_bytes

    def counted(path):
        found.append(path.name)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    return found


def written(folder, users, shared=True):
    store = adapter_files.AdapterStore(folder, base=BASE)
    if shared:
        store.write(None, layers(0))
    for seed, user in enumerate(users, start=1):
        store.write(user, layers(seed))
    return adapter_files.AdapterStore(folder, base=BASE)


def test_a_user_wears_the_sum_of_the_shared_and_their_own(tmp_path):
    store = written(tmp_path, ["ann"])
    both = product(layers(0))[LAYER] + product(layers(1))[LAYER]
    assert torch.allclose(product(store.of("ann"))[LAYER], both, atol=1e-6)
    assert store.of("ann")[LAYER][0].shape == (4, 6)
    assert torch.equal(product(store.of(None))[LAYER], product(layers(0))[LAYER])
    assert store.of("stranger") is store.of(None)


def test_layers_may_differ_between_both(tmp_path):
    store = adapter_files.AdapterStore(tmp_path, base=BASE)
    store.write(None, layers(0, names=("a", "b")))
    store.write("ann", layers(1, rank=3, names=("b", "c")))
    found = store.of("ann")
    assert {name: pair[0].shape[0] for name, pair in found.items()} == {"a": 2, "b": 5, "c": 3}


def test_without_files_nothing_is_worn(tmp_path):
    store = adapter_files.AdapterStore(tmp_path / "absent", base=BASE)
    assert dict(store.of("ann")) == {}
    assert dict(store.of(None)) == {}
    store.write("ann", layers(1))
    assert torch.equal(store.of("ann")[LAYER][0], layers(1)[LAYER][0])


def test_equal_updates_make_equal_files(tmp_path):
    first = adapter_files.AdapterStore(tmp_path / "a", base=BASE).write("ann", layers(1, names=("x", "y")))
    turned = dict(reversed(layers(1, names=("x", "y")).items()))
    second = adapter_files.AdapterStore(tmp_path / "b", base=BASE).write("bob", turned)
    assert first == second
    assert first == hashlib.sha256((tmp_path / "a" / adapter_files.file_of("ann")).read_bytes()).hexdigest()
    doubled = {name: (down.double(), up.double()) for name, (down, up) in turned.items()}
    assert adapter_files.AdapterStore(tmp_path / "b", base=BASE).write("bob", doubled) == first
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [adapter_files.file_of("bob")]


def test_files_are_read_when_asked_for_and_once(tmp_path, reads):
    store = written(tmp_path, ["ann", "bob", "eve"])
    assert reads == []
    lent = adapter_files.LazyAdapters(store, ["ann", "bob", "ann", None])
    assert len(lent) == 4
    assert len(lent[1:]) == 3
    assert reads == []
    for _ in range(3):
        assert list(lent[0]) == [LAYER]
    assert reads == [adapter_files.file_of("ann"), adapter_files.SHARED]
    assert lent[1:][0] is store.of("bob")
    assert reads == [adapter_files.file_of("ann"), adapter_files.SHARED, adapter_files.file_of("bob")]


def test_memory_is_bounded_and_the_least_recently_used_goes(tmp_path, reads):
    users = ["ann", "bob", "cyd", "dan"]
    written(tmp_path, users, shared=False)
    store = adapter_files.AdapterStore(tmp_path, base=BASE, most=2 * PAIR_BYTES)
    store.of("ann"), store.of("bob"), store.of("ann"), store.of("cyd")
    reads.clear()
    store.of("ann"), store.of("cyd")
    assert reads == []
    store.of("bob")
    assert reads[0] == adapter_files.file_of("bob")
    for user in users * 3:
        store.of(user)
        assert store.kept <= 2 * PAIR_BYTES


def test_what_is_larger_than_the_bound_is_lent_but_not_kept(tmp_path):
    written(tmp_path, ["ann"], shared=False)
    store = adapter_files.AdapterStore(tmp_path, base=BASE, most=PAIR_BYTES - 1)
    assert list(store.of("ann")) == [LAYER]
    assert store.kept == 0


def test_what_is_written_is_what_is_worn_next(tmp_path):
    store = written(tmp_path, ["ann"])
    before = product(store.of("ann"))[LAYER]
    store.write(None, layers(7))
    after = product(store.of("ann"))[LAYER]
    assert torch.allclose(after - before, product(layers(7))[LAYER] - product(layers(0))[LAYER], atol=1e-5)


@pytest.mark.parametrize("user", ["Zoë", "用户/..", "../../etc/passwd", "", "a" * 5000, "\0", "🦊"])
def test_any_user_id_has_a_file(tmp_path, user):
    store = written(tmp_path, [user])
    assert store.of(user)[LAYER][0].shape == (4, 6)
    assert {path.parent for path in tmp_path.rglob("*.safetensors")} == {tmp_path}


def test_an_id_that_is_no_text_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="written as UTF-8"):
        adapter_files.AdapterStore(tmp_path, base=BASE).of("\ud800")


def test_another_base_is_refused(tmp_path):
    written(tmp_path, ["ann"])
    other = adapter_files.AdapterStore(tmp_path, base="f" * 16)
    for user in (None, "ann"):
        with pytest.raises(InputError, match="another base \\(0123456789ab") as caught:
            other.of(user)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_where_it_is_expected(tmp_path):
    digest = adapter_files.AdapterStore(tmp_path, base=BASE).write("ann", layers(1))
    store = adapter_files.AdapterStore(tmp_path, base=BASE)
    store.expect("ann", digest)
    (tmp_path / adapter_files.file_of("ann")).unlink()
    with pytest.raises(InputError, match=f"no file; expected an adapter with sha256 {digest[:16]}"):
        store.of("ann")
    (tmp_path / adapter_files.file_of("ann")).mkdir()
    with pytest.raises(InputError, match="no adapter"):
        store.of("ann")


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1])
def test_a_torn_file_is_an_error(tmp_path, kept):
    written(tmp_path, ["ann"])
    path = tmp_path / adapter_files.file_of("ann")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="damaged adapter") as caught:
        adapter_files.AdapterStore(tmp_path, base=BASE).of("ann")
    assert "\n" not in str(caught.value)


def test_any_changed_bit_is_an_error_where_the_file_is_expected(tmp_path):
    digest = adapter_files.AdapterStore(tmp_path, base=BASE).write("ann", layers(1))
    path = tmp_path / adapter_files.file_of("ann")
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 7):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        store = adapter_files.AdapterStore(tmp_path, base=BASE)
        store.expect("ann", digest)
        with pytest.raises(InputError):
            store.of("ann")


def test_an_expectation_holds_for_what_was_read_before(tmp_path):
    store = written(tmp_path, ["ann", "bob"])
    store.of("ann"), store.of("bob")
    store.expect(None, "0" * 64)
    for user in (None, "ann", "bob", "stranger"):
        with pytest.raises(InputError, match="another adapter"):
            store.of(user)


@pytest.mark.parametrize(
    "tensors",
    [
        lambda: {"m.lora_A.weight": torch.zeros(2, 6)},
        lambda: {"m.lora_A.weight": torch.zeros(2, 6), "m.lora_B.weight": torch.zeros(4, 3)},
        lambda: {"m.lora_A.weight": torch.zeros(6), "m.lora_B.weight": torch.zeros(4)},
        lambda: {"m.lora_A.weight": torch.zeros(2, 6), "m.lora_B.weight": torch.full((4, 2), float("nan"))},
    ],
)
def test_matrices_that_make_no_update_are_refused(tmp_path, tensors):
    safetensors_torch.save_file(tensors(), tmp_path / adapter_files.SHARED, {"bestfor": json.dumps({"base": BASE})})
    with pytest.raises(InputError, match="'m'"):
        adapter_files.AdapterStore(tmp_path, base=BASE).of(None)


def test_updates_of_other_shapes_than_for_all_are_refused(tmp_path):
    store = written(tmp_path, [])
    store.write("ann", {LAYER: (torch.zeros(2, 9), torch.zeros(4, 2))})
    with pytest.raises(InputError, match="other shapes than for all"):
        store.of("ann")


def test_what_is_not_finite_is_never_written(tmp_path):
    store = adapter_files.AdapterStore(tmp_path, base=BASE)
    with pytest.raises(InputError, match="not finite"):
        store.write("ann", {LAYER: (torch.full((2, 6), float("inf")), torch.zeros(4, 2))})
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_store(tmp_path, reads):
    users = [f"u{index}" for index in range(12)]
    store = written(tmp_path, users)
    expected = {user: product(store.of(user))[LAYER] for user in users}
    store = adapter_files.AdapterStore(tmp_path, base=BASE)
    reads.clear()
    start = threading.Barrier(8)

    def work(offset):
        start.wait()
        return all(
            torch.equal(product(store.of(user))[LAYER], expected[user]) for user in users[offset:] + users[:offset]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert sorted(reads) == sorted([adapter_files.SHARED, *(adapter_files.file_of(user) for user in users)])


def test_threads_share_a_store_that_forgets(tmp_path):
    users = [f"u{index}" for index in range(6)]
    written(tmp_path, users)
    store = adapter_files.AdapterStore(tmp_path, base=BASE, most=4 * PAIR_BYTES)

    def work(offset):
        return all(store.of(users[(offset + step) % 6])[LAYER][0].shape == (4, 6) for step in range(30))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert store.kept <= 4 * PAIR_BYTES
