"""Priors of style: the posterior they hold, who is left out, what a model makes of them, and bad files."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.errors import InputError
from bestfor.rewards import Auto, Hierarchical, Pooled
from bestfor.rewards.features import STYLE
from bestfor.rewards.linear.pooled import place_prior, pool_rows
from bestfor.rewards.rows import canonical
from bestfor.rewards.style_prior import FORMAT, load_style_prior, text_hash
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples

K = len(STYLE)


def document(texts=(), evidence=1.0, seed=3):
    """Two conversations; the second is of these texts."""
    draw = rng.derive(seed, "prior")
    taught = []
    for name, known in (("one", ["nothing of the kind"]), ("two", texts)):
        z = draw.normal(size=(30, K))
        linear = z.T @ (z[:, 0] - z[:, 3] + 0.1 * draw.normal(size=30))
        hashes = [text_hash(text) for text in known]
        taught.append({"name": name, "texts": hashes, "precision": (z.T @ z).tolist(), "linear": linear.tolist()})
    width = np.linspace(0.5, 2.0, K).tolist()
    head = {"format": FORMAT, "columns": list(STYLE), "width": width, "variance": 0.5, "evidence": evidence}
    return {**head, "conversations": taught}


def stored(folder, **options):
    path = folder / "mine.json"
    path.write_text(json.dumps(document(**options)))
    return str(path)


@pytest.fixture(scope="module")
def shared():
    return canonical(taste_examples(users=12, queries=1, candidates=24, seed=5, shared=True))


@pytest.fixture(scope="module")
def certain(tmp_path_factory):
    """A prior that no labels turn off."""
    return stored(tmp_path_factory.mktemp("prior"), evidence=1e6)


def fitted(kind, shared, **options):
    return kind(encoder=LetterEncoder(), components=6, **options).fit(shared, rng=0)


def test_the_mean_is_that_of_all_conversations_labels_together(tmp_path):
    """Against ridge regression on the rows of both, which the sums stand for."""
    draw, prior = rng.derive(3, "prior"), load_style_prior(stored(tmp_path))
    rows, targets = [], []
    for _ in range(2):
        z = draw.normal(size=(30, K))
        rows.append(z)
        targets.append(z[:, 0] - z[:, 3] + 0.1 * draw.normal(size=30))
    z, y = np.vstack(rows), np.concatenate(targets)
    expected = np.linalg.lstsq(
        np.vstack([z, np.sqrt(K / 0.5) * np.eye(K)]), np.concatenate([y, np.zeros(K)]), rcond=None
    )[0]
    mean, left_out = prior.without(["another text"])
    np.testing.assert_allclose(mean, expected, atol=1e-10)
    assert left_out == ()


def test_a_conversation_whose_texts_are_fitted_is_left_out(tmp_path):
    path = stored(tmp_path, texts=["seen before"])
    prior, alone = load_style_prior(path), document()["conversations"][0]
    mean, left_out = prior.without(["seen before", "new"])
    expected = np.linalg.solve(K / 0.5 * np.eye(K) + np.array(alone["precision"]), alone["linear"])
    np.testing.assert_allclose(mean, expected, atol=1e-10)
    assert left_out == ("two",)
    nothing, everybody = prior.without(["seen before", "nothing of the kind"])
    assert not nothing.any()
    assert everybody == ("one", "two")


def test_pooled_predicts_labels_less_the_prior_and_adds_it(shared, certain):
    """The definition of a prior mean: fit to y - z'm, predict z'm + the rest."""
    model, plain = fitted(Pooled, shared, prior=certain), fitted(Pooled, shared)
    rows, centre, unit = pool_rows(plain.features(shared), shared)
    placed = place_prior(rows, shared, plain._space, certain)
    assert np.abs(placed.mean).max() > 0.01
    less = replace(shared, utility=shared.utility - unit * (rows.z @ placed.mean))
    scale = float(np.std(less.utility)) / unit
    expected = rows.z @ (placed.mean + placed.ridge.weights)
    np.testing.assert_allclose(model.predict(shared).mean, centre + unit * expected, atol=1e-6)
    refit = fitted(Pooled, less).predict(shared).mean + unit * (rows.z @ placed.mean)
    np.testing.assert_allclose(model.predict(shared).mean, refit, atol=0.05 * scale * unit)
    assert any(note.endswith(": on") for note in model.notes)


def test_hierarchical_predicts_labels_less_the_prior_and_adds_it(shared, certain):
    options = {"covariance": "isotropic", "variance_head": False, "text_effects": False, "abstain": False}
    model, plain = fitted(Hierarchical, shared, prior=certain, **options), fitted(Hierarchical, shared, **options)
    rows, _, unit = pool_rows(plain.features(shared), shared)
    moved = unit * (rows.z @ place_prior(rows, shared, plain._space, certain).mean)
    direct = fitted(Hierarchical, shared, **options)
    less = replace(shared, utility=(shared.utility - moved))
    # the same unit, so that the priors on variances are the same
    spread = float(np.std(less.utility)) / unit
    direct = fitted(Hierarchical, replace(less, utility=less.utility / spread), **options)
    gap = model.predict(shared).mean - (spread * direct.predict(shared).mean + moved)
    assert np.abs(gap).max() < 0.05 * unit
    person, alone = model.for_user("u3"), shared.take(shared.user == shared.users.index("u3"))
    np.testing.assert_allclose(person.score(model.features(alone)), model.predict(alone).mean, atol=1e-6)


def test_a_prior_that_labels_speak_against_is_off(shared, tmp_path):
    path = stored(tmp_path, evidence=-1e6)
    model, plain = fitted(Pooled, shared, prior=path), fitted(Pooled, shared)
    np.testing.assert_array_equal(model.predict(shared).mean, plain.predict(shared).mean)
    assert any(note.endswith(": off") for note in model.notes)


def test_a_model_without_a_prior_stores_none_and_one_with_it_loads_without_the_file(shared, certain, tmp_path):
    assert "prior" not in fitted(Pooled, shared).stored()[0]["config"]
    assert "prior" not in Auto(encoder=LetterEncoder()).config.model_dump(mode="json")
    path = tmp_path / "gone.json"
    path.write_text(json.dumps(document(evidence=1e6)))
    model = fitted(Hierarchical, shared, prior=str(path), covariance="isotropic", variance_head=False)
    model.save(tmp_path / "model")
    path.unlink()
    again = Hierarchical.load(tmp_path / "model", encoder=LetterEncoder())
    np.testing.assert_array_equal(again.predict(shared).mean, model.predict(shared).mean)


def test_auto_gives_its_prior_to_the_members_that_take_one(certain):
    model = Auto(encoder=LetterEncoder(), prior=certain)
    assert [model._make(kind).config.prior for kind in ("pooled", "hierarchical")] == [certain, certain]
    assert not hasattr(model._make("similarity").config, "prior")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"columns": ["length"]}, "a prior of other features"),
        ({"variance": 0.0}, "a prior of other features"),
        ({"conversations": [{"name": "one", "texts": []}]}, "an incomplete prior"),
        ({"format": "something else"}, "a prior of other features"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, broken, said):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**document(), **broken}))
    with pytest.raises(InputError, match=said) as caught:
        load_style_prior(str(path))
    assert "\n" not in str(caught.value)


def test_absent_files_and_models_without_style_are_refused(shared, certain):
    with pytest.raises(InputError, match="shipped prior: 'polis'"):
        load_style_prior("nowhere")
    with pytest.raises(InputError, match="style = true"):
        fitted(Pooled, shared, prior=certain, style=False)


def test_the_shipped_prior_is_of_eight_conversations_and_names_their_licence():
    prior = load_style_prior("polis")
    assert len(prior.taught) == 8
    assert all(len(one.texts) > 20 for one in prior.taught)
    for one in prior.taught:
        assert np.all(np.linalg.eigvalsh(one.precision) > -1e-3 * np.abs(one.precision).max())
    mean, _ = prior.without([])
    # everywhere people preferred longer texts, and those with fewer capitals
    assert mean[STYLE.index("log_characters")] > 0 > mean[STYLE.index("capitals")]


class TestPooledWithPrior(RewardModelTests):
    model = Pooled
    options: ClassVar = {"components": 8, "prior": "polis"}
