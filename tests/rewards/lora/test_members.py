"""The reward-LoRA ensemble: members of their own seeds, their mixture, and their folders."""

import json

import numpy as np
import pytest

from bestfor.data.labels import Labels
from bestfor.errors import InputError
from bestfor.rewards import Lora, load
from bestfor.testing.rewards import assert_same, taste_examples
from support import later
from support.lora import SHORT

pytestmark = pytest.mark.slow

torch = later("torch")

EXAMPLES = taste_examples(users=3, queries=4, candidates=5, seed=5)
SURE = {"held_out": 0.0, "epochs": 2, "user_epochs": 2, "user_rate": 0.02, "rate": 0.02}
"""Adapters are trained and told apart, whatever held-out labels would say."""


def fitted(backbone, cache=None, **options):
    return Lora(backbone=backbone, cache=cache, **{**SHORT, **SURE, **options}).fit(EXAMPLES, rng=0)


@pytest.fixture(scope="module")
def three(small, tmp_path_factory):
    """A saved ensemble and its predictions."""
    folder = tmp_path_factory.mktemp("three")
    model = fitted(small, members=3)
    found = model.predict(EXAMPLES)
    model.save(folder)
    return folder, found


def members_of(folder):
    """The members of a saved ensemble, each as a model of its own."""
    model = load(folder)
    found = []
    for weights, store in zip(model._weights, model._stores, strict=True):
        one = Lora.load(folder)
        one.config = model.config.model_copy(update={"members": 1})
        one._weights, one._stores = [weights], [store]
        found.append(one.predict(EXAMPLES))
    return found


def test_the_mixture_follows_the_law_of_total_variance(three, small):
    folder, found = three
    members = members_of(folder)
    assert_same(members[0], fitted(small).predict(EXAMPLES))
    means, stds = (np.array([getattr(one, name) for one in members]) for name in ("mean", "std"))
    assert np.ptp(means, axis=0).max() > 1e-4, "members are not all alike"
    np.testing.assert_allclose(found.mean, means.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.std_mean, means.std(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.std**2, (stds**2).mean(axis=0) + means.var(axis=0), atol=1e-6)


def test_caution_lowers_rewards_by_standard_deviations_between_members(three, small, tmp_path):
    _, found = three
    wary = fitted(small, members=3, caution=1.5)
    said = wary.predict(EXAMPLES)
    np.testing.assert_allclose(said.mean, found.mean - 1.5 * found.std_mean, atol=1e-6)
    np.testing.assert_allclose(said.std, found.std)
    wary.save(tmp_path)
    assert_same(load(tmp_path).predict(EXAMPLES), said)


def test_a_saved_ensemble_is_the_same(three, small, tmp_path):
    folder, found = three
    assert_same(load(folder).predict(EXAMPLES), found)
    assert len(list(folder.glob("adapters-*"))) == 3
    assert len(list(folder.rglob("adapters-*/*.safetensors"))) == 3 * 4
    config = json.loads((folder / "config.json").read_text())["model"]
    assert len(set(config["state"]["adapters"])) == 3
    assert config["config"]["members"] == 3
    mine = EXAMPLES.take(EXAMPLES.user == 1)
    alone = load(folder, user="u1")
    np.testing.assert_allclose(alone.predict(mine).mean, found.mean[EXAMPLES.user == 1], atol=1e-6)
    digest = load(folder).save(tmp_path)
    assert load(tmp_path).save(tmp_path) == digest
    assert len(list(tmp_path.glob("adapters-*"))) == 3
    texts = [EXAMPLES.texts[code] for code in mine.text[:3]]
    person, model = load(folder).person("u1", Labels()), load(folder)
    assert np.array_equal(person.score("x", texts).mean, model.score("u1", "x", texts).mean)
    fitted(small).save(tmp_path)
    assert len(list(tmp_path.glob("adapters-*"))) == 1, "the former members' adapters go"
    assert "members" not in json.loads((tmp_path / "config.json").read_text())["model"]["config"]


def test_a_member_that_is_missing_is_an_error(three, tmp_path):
    folder, _ = three
    load(folder).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    model = config["model"]
    for names in (model["state"]["adapters"][:2], [1, 2, 3], "adapters-1"):
        changed = {**config, "model": {**model, "state": {**model["state"], "adapters": names}}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(InputError):
            load(tmp_path)


@pytest.mark.parametrize(("loss", "scale"), [("point", "utility"), ("bradley_terry", "arbitrary")])
def test_without_a_learned_variance_only_the_mean_is_uncertain(small, loss, scale):
    model = fitted(small, members=2, loss=loss)
    found = model.predict(EXAMPLES)
    assert model.scale == scale
    assert found.std is None
    assert found.std_mean.max() > 0


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 14, 22])
def test_an_ensemble_that_was_stopped_ends_with_the_same_bytes(steps, small, tmp_path, monkeypatch):
    """Stopped in the first member, in the second, and in the third."""
    options = {"members": 3, "held_out": 0.3, "save_every": 1, "rows": 16, "user_rows": 16}
    step, done = torch.optim.AdamW.step, []

    def counted(self, *args):
        step(self, *args)
        if len(self.param_groups) > 1:
            done.append(1)
            if len(done) == steps:
                raise Stopped

    whole = fitted(small, **options).save(tmp_path / "whole")
    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    with pytest.raises(Stopped):
        fitted(small, tmp_path / "cache", **options)
    model = fitted(small, tmp_path / "cache", **options)
    assert model.save(tmp_path / "model") == whole
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_the_first_member_decides_for_all(small, monkeypatch):
    from bestfor.rewards.lora import fit

    told, run = [], fit.LoraFit.run

    def noted(self, store, decided=None):
        found = run(self, store, decided)
        told.append((self.context.seed, found.passes, found.verdict, decided))
        return found

    monkeypatch.setattr(fit.LoraFit, "run", noted)
    fitted(small, members=3, held_out=0.3)
    (seed, passes, verdict, nothing), *others = told
    assert nothing is None
    assert len({one[0] for one in told}) == 3
    assert all((one[1], one[2], one[3].seed) == (passes, verdict, seed) for one in others)
