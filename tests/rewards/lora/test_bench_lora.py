import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from support import later

flop_counter = later("torch.utils.flop_counter")
torch = later("torch")


SMALL = {"prompt": 6, "text": 4, "pack": 2, "packs": 2, "candidates": 3, "queries": 2, "written": 2}


@pytest.fixture
def bench(monkeypatch):
    """The benchmark, whose scripts are no package."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    return importlib.import_module("bench_lora"), importlib.import_module("lora_models")


def test_every_work_is_timed_with_what_it_ought_to_cost(bench):
    script, models = bench
    config = models.SMALL
    with models.subject("tiny", config, torch.device("cpu"), models.Size(**SMALL), 1e11) as one:
        works = (script.scores, script.generation, script.reward_training, script.policy_training)
        rows = [row for work in works for row in work(one, 1)]
    assert [row.kind for row in rows] == ["score"] * 3 + ["generation"] * 2 + ["reward training"] * 2 + [
        "policy training"
    ]
    assert all(row.each > 0 and row.work > 0 for row in rows)
    repeated, once, _ = rows[:3]
    assert repeated.work > once.work
    # forwards and backwards
    assert rows[5].work > 1.5 * rows[1].work
    lines = [script.line(replace(row, each=2.0), replace(one, name="Qwen2.5-1.5B"), None) for row in rows[:1]]
    assert "| 2.00 | 2.3 | 1.1 | no |" in lines[0]


def test_operations_are_those_that_torch_counts(bench):
    _, models = bench
    with models.subject("tiny", models.SMALL, torch.device("cpu"), models.Size(), 1e11) as one:
        model, tokens = one.backbone.model, 48
        model.set_attn_implementation("eager")  # whose multiplications are counted on every device
        with torch.no_grad(), flop_counter.FlopCounterMode(display=False) as counter:
            model(torch.ones(1, tokens, dtype=torch.long))
        # torch counts what causality leaves out
        left_out = 4 * model.config.num_hidden_layers * model.config.hidden_size * tokens * (tokens - 1) / 2
        found = models.flops(model, 20, [tokens - 20]) + left_out
        assert found == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_published_shapes_have_the_published_sizes(bench):
    script, models = bench
    sizes = {name: models.shape_of(config).num_parameters() / 1e9 for name, config in models.LARGE.items()}
    assert sizes == pytest.approx({"Qwen2.5-1.5B": 1.54, "Qwen3-4B": 4.02}, rel=0.005)
    assert all("unmeasured: no GPU" in line for line in script.unmeasured("Qwen3-4B"))
