from dataclasses import replace

import numpy as np
import pytest

from bestfor import rng
from bestfor.testing.rewards import taste_examples
from support import later
from support.lora import SHORT, fitting

attach = later("bestfor.rewards.lora.attach", "torch")
lora_heads = later("bestfor.rewards.lora.heads", "torch")
packing = later("bestfor.lm.packing", "torch")
torch = later("torch")
training = later("bestfor.rewards.lora.training", "torch")


EXAMPLES = taste_examples(users=3, queries=3, candidates=4, seed=3)


def run_of(work, *, loud=True, **stage):
    """A run of the adapter for everybody, with heads and weights that are not zero."""
    weights = work.adapted.start(attach.SHARED, 0)
    draw = rng.derive(5, "weights")
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(torch.from_numpy(draw.normal(size=tuple(weight.shape)) * 0.1))
    heads = lora_heads.LoraHeads.zero(stage.pop("users", 3), len(work.context.standard.centre), torch.device("cpu"))
    for value in heads.tensors().values():
        value.copy_(torch.from_numpy(draw.normal(size=tuple(value.shape)) * loud))
    made = training.TrainingStage((attach.SHARED,), 1e-2, 1000, stage.pop("epochs", 4), before=9)
    body = training.StateSource(work.adapted.states, weights, work.adapted.training)
    return training.LoraRun(work.rows, body, heads, replace(made, **stage), work.context)


def gradient(run):
    loss = run.gradient(run.bundles)
    return float(loss), {name: weight.grad.clone() for name, weight in run.weights.items()}


def same(first, second, **slack):
    assert first[0] == pytest.approx(second[0], rel=1e-4)
    for name, value in first[1].items():
        torch.testing.assert_close(value, second[1][name], **(slack or {"rtol": 1e-3, "atol": 1e-6}))


LOSSES = ["gaussian", "point", "bradley_terry"]


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_several_batches_add_up_to_that_of_one(loss, qwen2, tmp_path):
    found = []
    for tokens in (10**6, 600, 1):
        with fitting(qwen2, EXAMPLES, tmp_path, tokens=tokens, loss=loss) as work:
            run = run_of(work)
            found.append(gradient(run))
            assert len(run._batches(run.bundles)) == {10**6: 1, 600: 2, 1: 9}[tokens]
    assert all(float(value.abs().max()) > 0 for name, value in found[0][1].items() if "spread" not in name)
    same(found[0], found[1])
    same(found[0], found[2])


LAYERS = {"qwen2": "Qwen2DecoderLayer", "bert": "BertLayer"}


@pytest.mark.parametrize("folder", LAYERS)
def test_checkpointing_changes_no_gradient(folder, request, tmp_path):
    path, found, every = request.getfixturevalue(folder), [], {"targets": ("all-linear",), "user_targets": ()}
    for checkpointing in (False, True):
        with fitting(path, EXAMPLES, tmp_path, checkpointing=checkpointing, **every) as work:
            run, seen = run_of(work), []
            layer = next(module for module in work.adapted._model.modules() if type(module).__name__ == LAYERS[folder])
            next(layer.children()).register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
            run.gradient(run.bundles)
            found.append((0.0, {name: w.grad.clone() for name, w in run.weights.items() if w.grad is not None}))
            assert len(seen) == 1 + checkpointing
    same(*found)


@pytest.mark.parametrize(("loss", "folder"), [*((loss, "qwen2") for loss in LOSSES), ("gaussian", "qwen3")])
def test_training_lowers_the_loss(loss, folder, request, tmp_path):
    with fitting(request.getfixturevalue(folder), EXAMPLES, tmp_path, loss=loss, head_rate=0.05) as work:
        run = run_of(work, loud=False, rows=12, epochs=8)
        before = gradient(run)[0]
        for number in range(8):
            run.epoch(number)
        assert gradient(run)[0] < 0.9 * before


def test_a_user_is_trained_the_same_whoever_was_before(qwen2, tmp_path):
    def own(work, user):
        run = work.user_run(user, work.rows.take(work.rows.user == user), heads)
        run.epoch(0)
        return {**work.adapted.layers(attach.OWN), "heads": (run.heads.own_mean.detach(),)}

    with fitting(qwen2, EXAMPLES, tmp_path) as work:
        heads, _ = work.train_shared("final", work.rows, None, work._unjudged())
        one, two = own(work, 1), own(work, 2)
        again, alone = own(work, 2), own(work, 1)
    for first, second in ((one, alone), (two, again)):
        for name, values in first.items():
            assert all(torch.equal(a, b) for a, b in zip(values, second[name], strict=True))
    assert not torch.equal(one["heads"][0], two["heads"][0])


def test_the_base_is_as_before(qwen2, tmp_path):
    pack = packing.Pack((5, 6), ((7, 8, 9),), np.arange(1))
    with fitting(qwen2, EXAMPLES, tmp_path, level="both", checkpointing=True) as work:
        backbone = work.adapted._backbone
        names = {name for name, _ in backbone.model.named_parameters() if "lora" not in name}
        run_of(work).epoch(0)
        worn = work.adapted.states([pack])
    fresh = type(backbone)(qwen2)
    states = backbone.states(backbone.layout([pack]))
    assert torch.equal(states, fresh.states(fresh.layout([pack])).detach())
    assert not torch.equal(states, worn)
    assert {name for name, _ in backbone.model.named_parameters()} == {
        name.replace(".base_layer", "") for name in names
    }
    assert not any(weight.requires_grad for weight in backbone.model.parameters())
    assert not hasattr(backbone.model, "peft_config")
    assert not backbone.model.training


def test_dropout_is_drawn_for_each_step(qwen2, tmp_path):
    losses = []
    with fitting(qwen2, EXAMPLES, tmp_path, dropout=0.5) as work:
        for _ in range(2):
            run = run_of(work, rows=12)
            run.epoch(0)
            losses.append(gradient(run)[0])
        torch.manual_seed(1)
        one = gradient(run)[0]
        torch.manual_seed(2)
        assert gradient(run)[0] != one
    assert SHORT["epochs"] == 1


def test_texts_that_people_share_are_read_once(qwen2, tmp_path):
    shared = taste_examples(users=4, queries=1, candidates=6, shared=True)
    with fitting(qwen2, shared, tmp_path) as work:
        rows = work.rows
        assert (len(rows), len(rows.packs), rows.levels) == (24, 6, False)
        found = work.context.predict(rows, work._base, [run_of(work, users=4).heads])[0, 0]
    alone = [shared.take(shared.user == user) for user in range(4)]
    for user, mine in enumerate(alone):
        with fitting(qwen2, mine, tmp_path) as other:
            assert len(other.rows.packs) == 1
            assert set(other.rows.packs[0].texts) == {pack.texts[0] for pack in rows.packs}
        assert np.sum(rows.user == user) == 6
    assert len(np.unique(found)) == 24
