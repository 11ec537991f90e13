import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.errors import InputError
from bestfor.policies.transformers import locate
from bestfor.rewards._backbone import Backbone
from bestfor.rewards._packs import Pack
from bestfor.rewards._passes import Costs, plan
from bestfor.rewards._prefix import additive, states_behind
from bestfor.rewards._scoring import states_of

COMMON = {"vocab_size": 1536, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = COMMON | {"intermediate_size": 24, "num_key_value_heads": 1, "max_position_embeddings": 512}
CONFIGS = {
    "qwen2": lambda: transformers.Qwen2Config(**LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**LLAMA, head_dim=8),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=1536, n_embd=16, n_layer=2, n_head=2, n_positions=512),
    "mistral": lambda: transformers.MistralConfig(**LLAMA, sliding_window=8),
    "bert": lambda: transformers.BertConfig(**COMMON, intermediate_size=24, max_position_embeddings=512),
}
TARGETS = {
    "gpt2": ("h.0.attn.c_attn", "h.1.mlp.c_fc"),
    "bert": ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense"),
}
DECODER = ("layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.1.mlp.down_proj")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Tiny random models by name, with the embedded model's tokenizer."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            for path in locate("embedded").iterdir():
                if "token" in path.name or "template" in path.name:
                    shutil.copy(path, folder)
            torch.manual_seed(0)
            model = transformers.AutoModel.from_config(CONFIGS[name]())
            with torch.no_grad():
                for weights in model.parameters():
                    if weights.dim() > 1:
                        weights.normal_(0.0, 0.3)
            model.save_pretrained(folder)
            made[name] = Backbone(str(folder))
        return made[name]

    return get


def packs_of(shapes, seed=0):
    """Packs of random tokens: (prompt length, text lengths) each."""
    draw = np.random.default_rng(seed)

    def tokens(length):
        return tuple(draw.integers(5, 1536, length).tolist())

    return [
        Pack(tokens(prompt), tuple(tokens(size) for size in sizes), np.arange(len(sizes))) for prompt, sizes in shapes
    ]


def adapter(model, name, seed, rank=2):
    draw = torch.Generator().manual_seed(seed)
    found = {}
    for layer in TARGETS.get(name, DECODER)[: 1 + seed % 3]:
        shape = model.get_submodule(layer).weight.shape
        out, into = reversed(shape) if name == "gpt2" else shape
        found[layer] = (
            torch.randn(rank, into, generator=draw) / 4,
            torch.randn(out, rank, generator=draw) / 4,
        )
    return found


def plain(backbone, name, packs, adapters):
    """One pair at a time through a model into whose weights W + B A was written."""
    found = []
    for pack, worn in zip(packs, adapters, strict=True):
        model = copy.deepcopy(backbone.model)
        for layer, (down, up) in worn.items():
            update = up @ down
            model.get_submodule(layer).weight.data += update.T if name == "gpt2" else update
        for text in pack.texts:
            ids = torch.tensor([[*pack.prompt, *text]])
            with torch.no_grad():
                if name == "bert":
                    kinds = torch.tensor([[0] * len(pack.prompt) + [1] * len(text)])
                    found.append(model(ids, token_type_ids=kinds).last_hidden_state[0].mean(0).numpy())
                else:
                    found.append(model(ids).last_hidden_state[0, -1].numpy())
    return np.array(found)


def start_of(patch, start):
    """Let passes cost so many tokens beyond their own."""
    patch.setattr(Costs, "of", lambda backbone: Costs(attention=0.1, start=start))


RAGGED = [(5, [3, 1, 4]), (11, [6]), (2, [2, 2]), (0, [3, 5]), (11, [9, 1, 1, 2, 7])]


@pytest.mark.parametrize("tokens", [1, 24, 10_000])
@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_those_of_each_pair_alone(backbones, name, tokens):
    backbone = backbones(name)
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, name, seed, rank=1 + seed) for seed in range(4)] + [{}]
    found = states_of(backbone, packs, adapters, tokens=tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(backbone, name, packs, adapters), atol=2e-5)


def test_models_that_cannot_pack_get_rows(backbones):
    assert [backbones(name).packs for name in CONFIGS] == [True, True, True, False, False]
    assert [backbones(name).caches for name in CONFIGS] == [True, True, True, False, False]
    # texts without a prompt have nothing to share
    for name, rows in (("qwen2", 6), ("mistral", 13), ("bert", 13)):
        (batch,) = plan(backbones(name), packs_of(RAGGED), 10_000)
        assert len(batch.packs) == rows


@pytest.mark.parametrize("name", ["qwen2", "gpt2", "mistral", "bert"])
def test_users_of_one_batch_wear_their_own(backbones, name):
    backbone = backbones(name)
    packs = packs_of([(4, [3, 5])] * 3 + [(6, [2])] * 2)
    adapters = [adapter(backbone.model, name, seed) for seed in (0, 1, 2, 2)] + [{}]
    together = states_of(backbone, packs, adapters, tokens=10_000)
    apart = [states_of(backbone, [one], [own], tokens=10_000) for one, own in zip(packs, adapters, strict=True)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=2e-5)
    assert np.abs(together - states_of(backbone, packs, [{}] * 5, tokens=10_000))[:8].max() > 1e-2


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "gpt2"])
def test_a_prompts_cache_changes_nothing(backbones, monkeypatch, name):
    backbone = backbones(name)
    packs = packs_of([(9, [5] * 12), (7, [5] * 12), (12, [1, 9, 9]), (3, [4])])
    adapters = [adapter(backbone.model, name, seed) for seed in range(4)]
    start_of(monkeypatch, 1e4)
    assert all(batch.chunk is None for batch in plan(backbone, packs, 10_000))
    at_once = states_of(backbone, packs, adapters, tokens=10_000)
    start_of(monkeypatch, 2.0)
    cached = plan(backbone, packs, 100)
    assert any(batch.chunk and len(batch.packs) > 1 for batch in cached)
    np.testing.assert_allclose(states_of(backbone, packs, adapters, tokens=100), at_once, atol=2e-5)


def test_equal_batches_give_equal_bits(backbones):
    backbone = backbones("qwen3")
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, "qwen3", seed) for seed in range(5)]
    for tokens in (24, 10_000):
        first, second = (states_of(backbone, packs, adapters, tokens=tokens) for _ in range(2))
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("tokens", [20, 10_000])
def test_a_text_does_not_see_its_neighbours(backbones, tokens):
    backbone = backbones("qwen2")
    (pack,) = packs_of([(6, [4, 7, 5, 3])])
    before = states_of(backbone, [pack], [{}], tokens=tokens)
    changed = replace(pack, texts=(pack.texts[0], tuple(reversed(pack.texts[1])), *pack.texts[2:]))
    after = states_of(backbone, [changed], [{}], tokens=tokens)
    assert np.array_equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_bfloat16_is_near_float32(backbones):
    backbone = backbones("qwen2")
    half = Backbone(backbone.name, dtype="bfloat16")
    packs = packs_of(RAGGED)
    adapters = [adapter(backbone.model, "qwen2", seed) for seed in range(5)]
    expected = plain(backbone, "qwen2", packs, adapters)
    for tokens in (16, 10_000):
        found = states_of(half, packs, adapters, tokens=tokens)
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
        batches = plan(backbone, packs, tokens)
        found = states_of(backbone, packs, [{}] * len(packs), tokens=tokens)
    rows = np.concatenate([pack.rows for batch in batches for pack in batch.packs] or [[]])
    assert sorted(rows) == list(range(sum(len(sizes) for _, sizes in shapes)))
    assert all(batch.size <= tokens or len(batch.packs) == 1 for batch in batches)
    if len(found):
        np.testing.assert_allclose(found, plain(backbone, "qwen2", packs, [{}] * len(packs)), atol=2e-5)


def test_nothing_to_score(backbones):
    assert states_of(backbones("qwen2"), [], [], tokens=64).shape == (0, 16)
    empty = Pack((1, 2), (), np.arange(0))
    assert states_of(backbones("qwen2"), [empty], [{}], tokens=64).shape == (0, 16)


def test_the_cheaper_way_is_planned(backbones):
    costs = Costs(attention=1e-3, start=32)
    many, few = packs_of([(100, [300] * 30), (100, [20] * 3)])
    assert costs.way(few, 16_384) == ("together", 60)
    way, chunk = costs.way(many, 16_384)
    assert way == "behind"
    assert 300 <= chunk < 3000
    assert costs.way(many, 500) == ("behind", 330)
    assert costs.way(many, 50) == ("behind", 300)
    assert Costs(attention=1e-6, start=1e6).way(many, 16_384)[0] == "together"
    # where attention is all that counts and a prompt is short, texts are best apart
    assert Costs(attention=1.0, start=1e6).way(replace(many, prompt=(1, 2)), 16_384)[0] == "apart"
    wide = Costs.of(backbones("qwen2"))
    assert wide.attention == pytest.approx(1.5 * 4 * 2 * 16 / (2 * weights_of(backbones("qwen2"))))
    assert wide.start > Costs.of(backbones("gpt2")).start > 32


def weights_of(backbone):
    return sum(weight.numel() for name, weight in backbone.model.named_parameters() if "embed" not in name)


def test_the_mask_is_that_of_the_layout(backbones):
    backbone = backbones("qwen2")
    layout = backbone.layout(packs_of(RAGGED))
    mask = additive(layout.owner, layout.owner.shape[1], torch.zeros(0))
    assert np.array_equal((mask == 0).numpy()[:, 0], layout.visible())


def test_gradients_and_modes_are_left_as_they_were(backbones):
    backbone = backbones("qwen2")
    backbone.model.train()
    try:
        states_of(backbone, packs_of(RAGGED), [{}] * 5, tokens=24)
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
        states_of(backbones("qwen2"), packs_of(RAGGED[:1]), [wrong], tokens=64)


def test_adapters_are_asked_for_when_their_batch_comes(backbones):
    backbone = backbones("qwen2")
    asked = []

    class Lazily(list):
        def __getitem__(self, index):
            asked.append((index, len(passes)))
            return {}

    passes = []
    handle = backbone.model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        states_of(backbone, packs_of([(4, [3])] * 4), Lazily(), tokens=14)
    finally:
        handle.remove()
    assert asked == [(0, 0), (1, 0), (2, 1), (3, 1)]


FAULTS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4294967296 bytes."),
    MemoryError(),
]


@pytest.fixture
def small(monkeypatch):
    """Makes a model refuse passes of more tokens, cache included, than its memory holds."""
    handles = []

    def shrink(backbone, most, fault):
        assert backbone.caches == backbone.packs
        sizes = []

        def check(module, args, kwargs):
            cache = kwargs.get("past_key_values")
            rows, width = kwargs["input_ids"].shape
            sizes.append(rows * (width + (0 if cache is None else cache.get_seq_length())))
            if sizes[-1] > most:
                raise fault

        handles.append(backbone.model.register_forward_pre_hook(check, with_kwargs=True))
        return sizes

    yield shrink
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_what_does_not_fit_in_memory_goes_in_halves(backbones, small, fault):
    backbone = backbones("qwen2")
    packs = packs_of([(6, [5, 4, 6]), (6, [7, 7]), (6, [3]), (5, [2] * 8)])
    adapters = [adapter(backbone.model, "qwen2", seed) for seed in range(4)]
    expected = states_of(backbone, packs, adapters, tokens=10_000)
    sizes, told = small(backbone, 16, fault), []
    found = states_of(backbone, packs, adapters, tokens=10_000, tell=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told[0] == "A batch of 14 texts (84 tokens) did not fit in memory and goes in halves."
    # what is as large as what did not fit is not tried again
    failed = [size for size in sizes if size > 16]
    assert failed == sorted(set(failed), reverse=True)
    assert len(told) == len(failed)


@pytest.mark.parametrize("name", ["mistral", "bert"])
def test_rows_that_do_not_fit_in_memory_go_in_halves(backbones, small, name):
    backbone = backbones(name)
    packs = packs_of(RAGGED)
    expected = states_of(backbone, packs, [{}] * 5, tokens=10_000)
    small(backbone, 25, FAULTS[0])
    told = []
    found = states_of(backbone, packs, [{}] * 5, tokens=10_000, tell=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told


def test_passes_behind_a_cache_get_shorter(backbones, small, monkeypatch):
    backbone = backbones("qwen2")
    packs = packs_of([(20, [4] * 20)])
    expected = states_of(backbone, packs, [{}], tokens=10_000)
    start_of(monkeypatch, 100.0)
    (batch,) = plan(backbone, packs, 60)
    sizes, told = small(backbone, 24, FAULTS[0]), []
    assert batch.chunk
    found = states_of(backbone, packs, [{}], tokens=60, tell=told.append)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert told
    assert max(size for size in sizes if size <= 24) == 24


def test_a_pair_that_memory_does_not_hold_is_one_line(backbones, small):
    backbone = backbones("qwen2")
    small(backbone, 10, FAULTS[0])
    with pytest.raises(InputError, match="no memory for a text of 7 tokens behind a prompt of 6") as caught:
        states_of(backbone, packs_of([(6, [2, 7])]), [{}], tokens=10_000)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory(backbones, small):
    backbone = backbones("qwen2")
    small(backbone, 10, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        states_of(backbone, packs_of([(6, [2, 7])]), [{}], tokens=10_000)


def test_one_text_behind_a_cache(backbones):
    backbone = backbones("gpt2")
    packs = packs_of([(5, [3, 2]), (2, [6])])
    with torch.no_grad():
        found = states_behind(backbone.model, packs, 1, backbone.pad).numpy()
    np.testing.assert_allclose(found, plain(backbone, "gpt2", packs, [{}] * 2), atol=2e-5)
