from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.errors import InputError
from support import later
from support.backbones import KINDS, RAGGED, adapter, only, packs_of, plain, start_of, visible

lm_states = later("bestfor.lm.states", "torch")
packing = later("bestfor.lm.packing", "torch")
passes = later("bestfor.lm.passes", "torch")
torch = later("torch")


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 24, 10_000])
@pytest.mark.parametrize("name", KINDS)
def test_states_are_those_of_each_pair_alone(backbones, name, tokens):
    backbone = backbones(name)
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, name, seed, rank=1 + seed) for seed in range(4)] + [{}]
    found = passes.states_of(backbone, packs, adapters, tokens=tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(backbone, name, packs, adapters), atol=2e-5)


def test_models_that_cannot_pack_get_rows(backbones):
    assert [backbones(name).packs for name in KINDS] == [True, True, True, False, False]
    assert [backbones(name).caches for name in KINDS] == [True, True, True, False, False]
    assert [backbones(name).repeats for name in KINDS] == [True, True, True, True, False]
    # texts without a prompt have nothing to share
    for name, rows in (("qwen2", 6), ("bert", 13)):
        (batch,) = passes.plan(backbones(name), packs_of(RAGGED), 10_000)
        assert len(batch.packs) == rows


@pytest.mark.parametrize(("name", "repeats"), [("mamba", False), ("bloom", True), ("gemma3", True)])
def test_models_of_other_kinds_are_read_as_they_can(backbones, monkeypatch, name, repeats):
    backbone = backbones(name)
    start_of(monkeypatch, 2.0)
    assert (backbone.causal, backbone.packs, backbone.repeats) == (True, False, repeats)
    packs = packs_of([*RAGGED[:4], (30, [5, 3, 9, 12])])
    batches = passes.plan(backbone, packs, 200)
    assert any(batch.way == "repeated" for batch in batches) == repeats
    found = passes.states_of(backbone, packs, [{}] * 5, tokens=200)
    np.testing.assert_allclose(found, plain(backbone, name, packs, [{}] * 5), atol=2e-5)


def test_backbones_are_decoders_or_encoders(backbones):
    assert not backbones("deberta").causal
    assert passes.states_of(backbones("deberta"), packs_of(RAGGED[:1]), [{}], tokens=64).shape == (3, 16)
    with pytest.raises(InputError, match="an encoder-decoder model; expected a decoder or an encoder"):
        backbones("t5")


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "mistral", "bert"])
def test_users_of_one_batch_wear_their_own(backbones, name):
    backbone = backbones(name)
    packs = packs_of([(4, [3, 5])] * 3 + [(6, [2])] * 2)
    adapters = [adapter(backbone.model, name, seed) for seed in (0, 1, 2, 2)] + [{}]
    together = passes.states_of(backbone, packs, adapters, tokens=10_000)
    apart = [passes.states_of(backbone, [one], [own], tokens=10_000) for one, own in zip(packs, adapters, strict=True)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=2e-5)
    assert np.abs(together - passes.states_of(backbone, packs, [{}] * 5, tokens=10_000))[:8].max() > 1e-2


WAYS = [(name, way) for name in ("qwen2", "qwen3", "gpt2") for way in ("together", "behind", "repeated", "apart")]


@pytest.mark.parametrize(("name", "way"), [*WAYS, ("mistral", "repeated"), ("mistral", "apart")])
def test_ways_to_read_change_nothing(backbones, monkeypatch, name, way):
    backbone = backbones(name)
    packs = packs_of([(9, [5] * 12), (9, [5] * 12), (12, [1, 9, 9]), (3, [4]), (0, [2, 3])])
    adapters = [adapter(backbone.model, name, seed) for seed in range(5)]
    start_of(monkeypatch, 2.0)
    only(monkeypatch, way)
    batches = passes.plan(backbone, packs, 100)
    expected = "together" if way == "apart" else way
    most = {"repeated": 100 // (9 + 5), "apart": 1}.get(way, 12)
    assert max(len(batch.packs[0].texts) for batch in batches if batch.way == expected) == most
    # users share batches, but for one way
    assert any(len(batch.packs) > 1 for batch in batches if batch.way == expected) == (way != "repeated")
    found = passes.states_of(backbone, packs, adapters, tokens=100)
    np.testing.assert_allclose(found, plain(backbone, name, packs, adapters), atol=2e-5)


@pytest.mark.parametrize(("name", "way"), [("qwen2", "together"), ("qwen3", "behind"), ("mistral", "repeated")])
def test_mean_states_are_those_of_each_pair_alone(backbones, monkeypatch, name, way):
    model = backbones(name).model
    backbone = lm_states.Backbone(backbones(name).name, pooling="mean")
    packs = packs_of(RAGGED)
    only(monkeypatch, way)
    found = passes.states_of(backbone, packs, [{}] * len(packs), tokens=60)
    expected = []
    for pack in packs:
        for text in pack.texts:
            with torch.no_grad():
                states = model(torch.tensor([[*pack.prompt, *text]])).last_hidden_state[0]
            expected.append(states[-len(text) :].mean(dim=0).numpy())
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_equal_batches_give_equal_bits(backbones):
    backbone = backbones("qwen3")
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, "qwen3", seed) for seed in range(5)]
    for tokens in (24, 10_000):
        first, second = (passes.states_of(backbone, packs, adapters, tokens=tokens) for _ in range(2))
        assert first.tobytes() == second.tobytes()


def test_threads_that_share_a_backbone_wear_their_own(backbones):
    backbone = backbones("qwen2")
    packs = packs_of([(8, [6] * 6)])
    adapters = [adapter(backbone.model, "qwen2", seed) for seed in range(4)]

    def work(seed):
        return passes.states_of(backbone, packs, [adapters[seed]], tokens=40)

    alone = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, [0, 1, 2, 3] * 4))
    assert all(np.array_equal(one, alone[place % 4]) for place, one in enumerate(found))


@pytest.mark.parametrize("tokens", [20, 10_000])
def test_a_text_does_not_see_its_neighbours(backbones, tokens):
    backbone = backbones("qwen2")
    (pack,) = packs_of([(6, [4, 7, 5, 3])])
    before = passes.states_of(backbone, [pack], [{}], tokens=tokens)
    changed = replace(pack, texts=(pack.texts[0], tuple(reversed(pack.texts[1])), *pack.texts[2:]))
    after = passes.states_of(backbone, [changed], [{}], tokens=tokens)
    assert np.array_equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_bfloat16_is_near_float32(backbones):
    backbone = backbones("qwen2")
    half = lm_states.Backbone(backbone.name, dtype="bfloat16")
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, "qwen2", seed) for seed in range(5)]
    expected = plain(backbone, "qwen2", packs, adapters)
    for tokens in (16, 10_000):
        found = passes.states_of(half, packs, adapters, tokens=tokens)
        assert found.dtype == np.float32
        assert np.abs(found - expected).mean() < 2e-2 * np.abs(expected).mean()


shapes = st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(1, 8), max_size=5)), min_size=1, max_size=4)


@settings(max_examples=15)
@given(shapes=shapes, tokens=st.integers(1, 90), start=st.sampled_from([1e-3, 1.0, 1e3]))
def test_ragged_packs_come_back_in_order(backbones, shapes, tokens, start):
    backbone = backbones("qwen2")
    packs = packs_of(shapes)
    with pytest.MonkeyPatch.context() as patch:
        start_of(patch, start)
        batches = passes.plan(backbone, packs, tokens)
        found = passes.states_of(backbone, packs, [{}] * len(packs), tokens=tokens)
    rows = np.concatenate([pack.rows for batch in batches for pack in batch.packs] or [[]])
    assert sorted(rows) == list(range(sum(len(sizes) for _, sizes in shapes)))
    assert all(batch.size <= tokens or len(batch.packs) == 1 for batch in batches)
    if len(found):
        np.testing.assert_allclose(found, plain(backbone, "qwen2", packs, [{}] * len(packs)), atol=2e-5)


def test_nothing_to_score(backbones):
    assert passes.states_of(backbones("qwen2"), [], [], tokens=64).shape == (0, 16)
    empty = packing.Pack((1, 2), (), np.arange(0))
    assert passes.states_of(backbones("qwen2"), [empty], [{}], tokens=64).shape == (0, 16)


def test_the_mask_is_that_of_the_layout(backbones):
    backbone = backbones("qwen2")
    layout = backbone.layout(packs_of(RAGGED))
    mask = packing.attention_mask(layout.owner, layout.owner.shape[1], torch.zeros(0))
    assert np.array_equal((mask == 0).numpy()[:, 0], visible(layout))


def test_gradients_and_modes_are_left_as_they_were(backbones):
    backbone = backbones("qwen2")
    backbone.model.train()
    try:
        passes.states_of(backbone, packs_of(RAGGED), [{}] * 5, tokens=24)
        assert backbone.model.training
    finally:
        backbone.model.eval()
    assert all(weight.grad is None for weight in backbone.model.parameters())
    assert not any(module._forward_hooks for module in backbone.model.modules())
    layout = backbone.layout(packs_of(RAGGED[:1]))
    assert backbone.states(layout).requires_grad


def test_an_update_of_a_layer_that_is_not_there_is_bad_input(backbones):
    wrong = {"layers9": (torch.zeros(1, 16), torch.zeros(16, 1))}
    with pytest.raises(InputError, match="'layers9'"):
        passes.states_of(backbones("qwen2"), packs_of(RAGGED[:1]), [wrong], tokens=64)


def test_one_text_behind_a_cache(backbones):
    backbone = backbones("gpt2")
    packs = packs_of([(5, [3, 2]), (2, [6])])
    expected = plain(backbone, "gpt2", packs, [{}] * 2)
    with torch.no_grad():
        np.testing.assert_allclose(packing.states_behind(backbone.model, packs, 1, backbone.pad), expected, atol=2e-5)
        np.testing.assert_allclose(
            packing.states_repeated(backbone.model, packs[1], backbone.pad), expected[2:], atol=2e-5
        )
