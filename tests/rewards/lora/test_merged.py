"""A tuned backbone as a checkpoint of its own, and stopping by the ranking of held-out rows."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.__main__ import main
from bestfor.encoders import load_encoder
from bestfor.errors import InputError
from bestfor.rewards import KINDS, Lora
from bestfor.rewards.lora.rows import TokenRows
from bestfor.testing.rewards import assert_same, taste_examples
from support import later
from support.lora import SHORT

held_out = later("bestfor.rewards.lora.held_out", "torch")
packing = later("bestfor.lm.packing")
passes = later("bestfor.lm.passes", "torch")
states = later("bestfor.lm.states", "torch")

EXAMPLES = taste_examples(users=3, queries=4, candidates=5, seed=5)
SURE = {"held_out": 0.0, "epochs": 3, "user_epochs": 0, "rate": 0.05}


def fitted(backbone, **options):
    return Lora(backbone=backbone, **{**SHORT, **SURE, **options}).fit(EXAMPLES, rng=0)


def states_by(backbone, adapter):
    prompt, *texts = backbone.encode("q", EXAMPLES.inputs[0], list(EXAMPLES.texts[:6]))
    pack = packing.Pack(prompt, tuple(texts), np.arange(len(texts)), 0)
    return passes.states_of(backbone, [pack], [adapter], tokens=4096)


def test_a_merged_backbone_has_the_states_of_its_adapter(small, tmp_path, monkeypatch, capsys):
    model = fitted(small)
    before = model.predict(EXAMPLES)
    model.export_backbone(tmp_path / "tuned")
    assert_same(model.predict(EXAMPLES), before)
    plain, tuned = states.Backbone(small), states.Backbone(str(tmp_path / "tuned"))
    adapter = model._stores[0].of(None)
    assert adapter
    expected = states_by(plain, adapter)
    np.testing.assert_allclose(states_by(tuned, {}), expected, atol=1e-4)
    assert np.abs(expected - states_by(plain, {})).max() > 1e-2
    with pytest.raises(InputError, match="a folder that is there"):
        model.export_backbone(tmp_path / "tuned")
    model.save(tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["bestfor", "models", "export-backbone", f"{tmp_path}/model", f"{tmp_path}/again"])
    assert main() == 0
    assert "hidden:" in capsys.readouterr().err
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("tuned", "again")]
    assert weights[0] == weights[1]
    heads = KINDS["hierarchical"](encoder=f"hidden:{tmp_path}/tuned", components=2).fit(EXAMPLES, rng=0)
    assert np.isfinite(heads.predict(EXAMPLES).mean).all()
    own, base = (load_encoder(f"hidden:{one}").encode(["a text"]) for one in (tmp_path / "tuned", small))
    assert np.abs(own - base).max() > 1e-3


def test_without_an_adapter_for_everybody_there_is_nothing_to_write(small, tmp_path):
    with pytest.raises(InputError, match="no adapter for everybody"):
        fitted(small, level="user").export_backbone(tmp_path / "tuned")


def rows_of(user, query, target, levels):
    packs = tuple(packing.Pack((1,), ((2,),), np.array([k])) for k in range(len(user)))
    arrays = (np.arange(len(user)), np.array(user, dtype=np.int64), np.array(target, dtype=float))
    return TokenRows(packs, np.array(query, dtype=np.int64), *arrays, tuple(map(str, query)), levels)


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=9), st.booleans())
def test_pairs_in_the_wrong_order_are_counted_by_query(given_rows, levels):
    user, query, target, score = (list(column) for column in zip(*given_rows, strict=True))
    shares = []
    for key in {(u, q) if levels else u for u, q in zip(user, query, strict=True)}:
        own = [k for k in range(len(user)) if ((user[k], query[k]) if levels else user[k]) == key]
        pairs = [(a, b) for a in own for b in own if target[a] > target[b]]
        wrong = [1.0 if score[a] < score[b] else 0.5 if score[a] == score[b] else 0.0 for a, b in pairs]
        shares += [np.mean(wrong)] if pairs else []
    found = held_out.misranked(rows_of(user, query, target, levels), np.array(score, dtype=float))
    assert found == (pytest.approx(np.mean(shares)) if shares else None)


@pytest.mark.slow
def test_a_fit_may_stop_by_ranking(small, monkeypatch):
    asked, misranked = [], held_out.misranked
    monkeypatch.setattr(held_out, "misranked", lambda *given: asked.append(misranked(*given)) or asked[-1])
    plain = fitted(small, held_out=0.5, user_epochs=1)
    assert not asked
    ranked = fitted(small, held_out=0.5, user_epochs=1, stop_by="ranking")
    assert asked
    assert all(value is None or 0 <= value <= 1 for value in asked)
    assert "stop_by" not in plain.stored()[0]["config"]
    assert ranked.stored()[0]["config"]["stop_by"] == "ranking"
