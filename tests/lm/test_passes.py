from dataclasses import replace

import pytest

from support import later
from support.backbones import packs_of

lm_passes = later("bestfor.lm.passes", "torch")


def cheapest(costs, pack, tokens, packs=1):
    ways = costs.ways(pack, tokens, packs)
    return min(ways, key=lambda way: ways[way][0])


def test_the_cheaper_way_is_planned(backbones):
    costs = lm_passes.Costs(attention=1e-3, start=32)
    many, few = packs_of([(100, [300] * 30), (100, [20] * 3)])
    assert cheapest(costs, few, 16_384) == "together"
    assert cheapest(costs, many, 16_384) == "repeated"
    # queries that share passes need not share a prompt's copies
    assert cheapest(costs, many, 1 << 20, packs=50) == "behind"
    assert cheapest(lm_passes.Costs(attention=1e-6, start=1e6), many, 16_384) == "together"
    # where attention is all that counts and a prompt is short, texts are best apart
    assert cheapest(lm_passes.Costs(attention=1.0, start=1e6), replace(many, prompt=(1, 2)), 16_384) == "apart"
    assert {way: chunk for way, (_, chunk) in costs.ways(many, 16_384).items()} == {
        "together": 9000,
        "behind": 330,
        "repeated": 30,
        "apart": 1,
    }
    assert costs.ways(many, 1000)["repeated"][1] == 2
    assert costs.ways(many, 50)["behind"][1] == 300
    assert "together" not in costs.ways(many, 9000)
    wide = lm_passes.Costs.of(backbones("qwen2"))
    assert wide.attention == pytest.approx(1.5 * 4 * 2 * 16 / (2 * weights_of(backbones("qwen2"))))
    assert wide.start > lm_passes.Costs.of(backbones("gpt2")).start > 32


def weights_of(backbone):
    return sum(weight.numel() for name, weight in backbone.model.named_parameters() if "embed" not in name)


def test_adapters_are_asked_for_when_their_batch_comes(backbones):
    backbone = backbones("qwen2")
    lm_passes.states_of(
        backbone, packs_of([(4, [3])]), [{}], tokens=14
    )  # what the model can do is found out once, by passes
    asked = []

    class Lazily(list):
        def __getitem__(self, index):
            asked.append((index, len(passes)))
            return {}

    passes = []
    handle = backbone.model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        lm_passes.states_of(backbone, packs_of([(4, [3])] * 4), Lazily(), tokens=14)
    finally:
        handle.remove()
    assert asked == [(0, 0), (1, 0), (2, 1), (3, 1)]
