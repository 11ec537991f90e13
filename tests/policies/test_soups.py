import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.lm.location import fingerprint
from support import later

adapter_files = later("bestfor.lm.adapter_files", "torch")
personal = later("bestfor.policies.adapters", "torch", "peft")
soups = later("bestfor.policies.soups", "torch", "peft")

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
TEXTS = {
    "ann": [("old stone", "bridge bridge bridge"), ("quiet", "bridge of the river")],
    "bob": [("old stone", "SHOUT LOUD"), ("short", "LOUD LOUD LOUD")],
    "c/../ünï": [("long roads", "evenings")],
}
VECTORS = {"a": np.array([1.0, 0.0]), "b": np.array([4.0, 0.2]), "c": np.array([0.0, 3.0]), "d": np.array([0.1, 1.0])}


def quick(**more):
    return personal.LoraSettings(rank=2, alpha=8.0, tokens=96, rate=0.05, **{"steps": 4, **more})


def examples():
    return {
        user: [personal.Example(({"role": "user", "content": asked},), wrote) for asked, wrote in rows]
        for user, rows in TEXTS.items()
    }


def dense(updates):
    return {layer: (up @ down).numpy() for layer, (down, up) in updates.items()}


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("apart")
    personal.train_adapters(checkpoint, examples(), out, quick())
    return out


def test_a_soup_is_the_weighted_sum_of_updates(checkpoint, trained, tmp_path):
    parts = {"ann": [(trained, "ann", 0.75), (trained, "bob", 0.25)], "bob": [(trained, "bob", 1.0)]}
    record = soups.mix_adapters(checkpoint, parts, tmp_path)
    base = fingerprint(checkpoint)
    before, mixed = (adapter_files.AdapterFolder(folder, base) for folder in (trained, tmp_path))
    ann, bob, soup = dense(before.of("ann")), dense(before.of("bob")), dense(mixed.of("ann"))
    assert set(soup) == set(ann)
    for layer in soup:
        np.testing.assert_allclose(soup[layer], 0.75 * ann[layer] + 0.25 * bob[layer], atol=1e-6)
        np.testing.assert_allclose(dense(mixed.of("bob"))[layer], bob[layer], atol=1e-6)
    assert record["users"]["ann"]["mixed"] == {"ann": 0.75, "bob": 0.25}
    assert mixed.of("nobody") == {}


def test_same_parts_give_the_same_bytes(checkpoint, trained, tmp_path):
    parts = {"ann": [(trained, "ann", 0.5), (trained, "bob", 0.5)]}
    for name in ("one", "two"):
        soups.mix_adapters(checkpoint, parts, tmp_path / name)
    first, again = (sorted((path.name, path.read_bytes()) for path in (tmp_path / n).iterdir()) for n in ("one", "two"))
    assert first == again


def test_nothing_to_mix_is_an_error(checkpoint, trained, tmp_path):
    with pytest.raises(InputError, match="at least one user"):
        soups.mix_adapters(checkpoint, {"ann": []}, tmp_path)
    with pytest.raises(InputError, match="no update for user 'zoe'"):
        soups.mix_adapters(checkpoint, {"zoe": [(trained, "nobody", 1.0)]}, tmp_path)


def test_who_writes_alike_weighs_more():
    weights = soups.soup_weights(VECTORS, 2)
    assert set(weights["a"]) == {"a", "b"}
    assert set(weights["c"]) == {"c", "d"}
    assert weights["a"]["a"] > weights["a"]["b"] > 0
    assert all(sum(one.values()) == pytest.approx(1.0) for one in weights.values())
    everybody = soups.soup_weights(VECTORS, 9, temperature=1e6)
    assert all(one == pytest.approx(0.25, abs=1e-5) for one in everybody["b"].values())


def test_a_user_is_always_in_the_own_soup():
    same = {name: np.array([1.0, 1.0]) for name in "abc"}
    assert all(name in found for name, found in soups.soup_weights(same, 1).items())


@pytest.mark.parametrize(("nearest", "temperature"), [(0, 0.1), (2, 0.0)])
def test_a_soup_of_nobody_is_an_error(nearest, temperature):
    with pytest.raises(InputError, match="at least one"):
        soups.soup_weights(VECTORS, nearest, temperature)


def test_users_are_grouped_by_what_they_wrote():
    groups = soups.group_users(VECTORS, 2)
    assert groups["a"] == groups["b"] != groups["c"] == groups["d"]
    assert soups.group_users(VECTORS, 2) == groups
    assert set(soups.group_users(VECTORS, 9).values()) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="at least 1"):
        soups.group_users(VECTORS, 0)


def test_a_groups_adapter_stands_alone_without_personal_steps(checkpoint, tmp_path):
    groups = {"ann": 0, "bob": 1, "c/../ünï": 0}
    record = soups.train_in_groups(checkpoint, examples(), groups, tmp_path, quick(steps=0, shared_steps=2))
    folder = adapter_files.AdapterFolder(tmp_path, fingerprint(checkpoint))
    assert sorted(record["users"]) == sorted(groups)
    ann, bob, other = (dense(folder.of(user)) for user in groups)
    assert all(np.array_equal(ann[layer], other[layer]) for layer in ann)
    assert not all(np.array_equal(ann[layer], bob[layer]) for layer in ann)


def test_a_groups_adapter_stands_below_its_members(checkpoint, tmp_path):
    texts, groups = examples(), {"ann": 0, "bob": 1, "c/../ünï": 0}
    with pytest.raises(InputError, match="shared_steps"):
        soups.train_in_groups(checkpoint, texts, groups, tmp_path / "none", quick())
    config = quick(steps=2, shared_steps=2)
    record = soups.train_in_groups(checkpoint, texts, groups, tmp_path / "all", config)
    members = {user: texts[user] for user, group in groups.items() if group == 0}
    personal.train_adapters(checkpoint, members, tmp_path / "alone", config)
    base = fingerprint(checkpoint)
    whole, alone = (adapter_files.AdapterFolder(tmp_path / name, base) for name in ("all", "alone"))
    for layer, update in dense(alone.of("ann")).items():
        np.testing.assert_allclose(dense(whole.of("ann"))[layer], update, atol=1e-6)
    assert record["groups"] == groups


@pytest.mark.parametrize(("count", "steps"), [(1, 3), (2, 1), (2, 4), (3, 2), (3, 5)])
def test_weights_are_tried_in_even_steps(count, steps):
    found = soups.weight_grid(count, steps)
    brute = {one for one in np.ndindex(*(steps + 1,) * count) if sum(one) == steps}
    assert len(found) == len(brute)
    assert {tuple(round(weight * steps) for weight in one) for one in found} == brute
    assert found[0] == (1.0, *(0.0,) * (count - 1))
    np.testing.assert_allclose(np.sum(found, axis=1), 1.0)
    with pytest.raises(InputError, match="weights of a soup"):
        soups.weight_grid(0, 1)
