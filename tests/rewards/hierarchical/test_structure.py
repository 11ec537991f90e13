"""How the hierarchical model chooses the structure of tastes, and what each structure does."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

from bestfor import rng
from bestfor.rewards import Hierarchical, Pooled
from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.structure import Structure, choose_structure, restore_structure, user_evidence
from bestfor.rewards.hierarchical.variances import LearningOptions, Prior, learn_scales, learn_variances
from bestfor.rewards.rows import FeatureRows
from bestfor.testing.rewards import (
    LetterEncoder,
    RewardModelTests,
    assert_close,
    assert_same,
    labels_of,
    taste_examples,
)

GOLDEN = {
    "isotropic": ([1.6946404, -0.977471673, -0.581575736], [1.26828987, 1.32285647, 1.30990108]),
    "low_rank": ([1.99696425, -1.14524402, -0.137221977], [1.24555027, 1.28274517, 1.33218804]),
    "full": ([1.93614609, -0.944851798, -0.667083637], [1.27180865, 1.33350322, 1.29281928]),
}
STRUCTURES = {
    "auto": {},
    "none": {"covariance": "none"},
    "isotropic": {"covariance": "isotropic"},
    "low_rank": {"covariance": "low_rank", "rank": 2},
    "inverse_wishart": {"covariance": "inverse_wishart", "shrinkage": 20},
    "full": {"covariance": "full"},
    "slopes": {"covariance": "inverse_wishart", "query_slopes": 1.0},
}


class TestOwnQueries(RewardModelTests):
    model = Hierarchical
    options: ClassVar = {"components": 8, "covariance": "inverse_wishart", "query_slopes": 1.0}


def build(**options):
    return Hierarchical(encoder=LetterEncoder(), **{"components": 8, "rank": 2, **options})


def tasteful(own, users=40, queries=2, candidates=10, seed=31, noise=0.3):
    """Users whose weights on the letters are everybody's plus ``own`` (users, 16)."""
    draw = rng.derive(seed, "tasteful")
    base = taste_examples(users=users, queries=queries, candidates=candidates, seed=seed)
    vectors = LetterEncoder().encode(base.texts).astype(np.float64) * 4
    weights = draw.normal(size=16) + own(draw)
    utility = np.sum(vectors[base.text] * weights[base.user], axis=1) + noise * draw.normal(size=len(base))
    return replace(base, utility=utility)


def same_for_all(draw):
    return np.zeros((40, 16))


@pytest.mark.parametrize("covariance", ["isotropic", "low_rank", "full"])
def test_what_is_told_stays_what_it_was(covariance):
    examples = taste_examples(users=14, seed=30)
    estimate = build(covariance=covariance).fit(examples, rng=0).predict(examples)
    for found, expected in zip((estimate.mean, estimate.std), GOLDEN[covariance], strict=True):
        np.testing.assert_allclose(found[[0, 100, 335]], expected, rtol=1e-6)


def test_users_who_are_all_the_same_have_no_tastes_and_the_pooled_model():
    examples = tasteful(same_for_all, noise=2.0)
    train = examples.query % 2 == 0
    test = examples.take(~train)
    model = build().fit(examples.take(train), rng=0)
    assert model.structure.covariance in ("none", "isotropic")
    assert any(note.startswith("covariance of tastes") for note in model.notes)
    pooled = Pooled(encoder=LetterEncoder(), components=8).fit(examples.take(train), rng=0)
    found, reference = model.predict(test).mean, pooled.predict(test).mean
    assert np.corrcoef(found, reference)[0, 1] > 0.97
    assert np.corrcoef(found, test.utility)[0, 1] == pytest.approx(np.corrcoef(reference, test.utility)[0, 1], abs=0.02)


@pytest.mark.slow
def test_correlated_tastes_of_many_users_get_a_full_covariance():
    def along_two_axes(draw):
        return draw.normal(size=(120, 2)) @ draw.normal(size=(2, 16)) * 2

    examples = tasteful(along_two_axes, users=120)
    model = build(style=False, answer=False, components=15).fit(examples, rng=0)
    assert model.structure.covariance == "inverse_wishart"
    assert "standard error" in model.notes[-1]
    values = np.linalg.eigvalsh(model._fitted_values.posteriors.prior.deviation)
    assert values[-2] > 2 * values[-3]
    isotropic = build(style=False, answer=False, components=15, covariance="isotropic").fit(examples, rng=0)
    assert model.left_out.error.mean() < isotropic.left_out.error.mean()


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_is_stored_updated_and_the_same_for_any_order(name, tmp_path):
    examples = taste_examples(users=14, seed=30)
    known = examples.take((examples.user < 13) & (examples.query % 3 < 2))
    options = {**STRUCTURES[name], "variance_head": False}
    model = build(**options).fit(known, rng=0)
    mixed = known.take(rng.derive(1, "order").permutation(len(known)))
    assert_same(build(**options).fit(mixed, rng=0).predict(examples), model.predict(examples))
    model.save(tmp_path)
    loaded = Hierarchical.load(tmp_path, encoder=LetterEncoder())
    assert_same(loaded.predict(examples), model.predict(examples))
    assert replace(model.structure, notes=()) == loaded.structure
    assert loaded.notes == model.notes
    before, rest = model.predict(examples), examples.take((examples.user == 13) | (examples.query % 3 == 2))
    labels, prompt = labels_of(rest, "u13"), examples.inputs[-1]
    mine = examples.take(examples.user == 13)
    texts = [examples.texts[code] for code in mine.text]
    after = loaded.person("u13", labels).score(prompt, texts)
    assert_close(after, model.person("u13", labels).score(prompt, texts))
    if name != "none":
        known = before.mean[examples.user == 13]
        assert np.std(mine.utility - after.mean) < np.std(mine.utility - known)


def test_evidence_of_a_user_is_the_normal_density():
    draw = rng.derive(32, "evidence")
    n = 24
    rows = FeatureRows(
        np.column_stack([draw.normal(size=(n, 2)), np.ones(n)]),
        draw.normal(size=n),
        np.repeat([0, 1], 12),
        np.arange(n),
    )
    rows = replace(rows, query=np.arange(n) // 3)
    root = draw.normal(size=(3, 3)) / 2
    prior, shared = Prior(root @ root.T, np.ones(3), noise=0.4, ratio=0.7), draw.normal(size=3)
    size, covariance = draw.uniform(0.5, 2, size=n), 0.1 * np.eye(3)
    data = compress_rows(rows, size, levels=True)
    found = user_evidence(data, prior, shared, covariance)
    expected = []
    for user in range(2):
        mine = rows.user == user
        z, query = rows.z[mine], rows.query[mine]
        whole = z @ (prior.deviation + covariance) @ z.T + 0.4 * np.diag(size[mine])
        whole += 0.28 * (query[:, None] == query)
        expected.append(stats.multivariate_normal(z @ shared, whole).logpdf(rows.y[mine]))
    # what compact rows leave out is dealt out evenly
    assert found.sum() == pytest.approx(sum(expected), abs=1e-8)
    assert data.rest > 0


def test_an_inverse_wishart_prior_is_where_few_users_leave_it():
    draw = rng.derive(33, "prior")
    users, n = 30, 300
    z = np.column_stack([draw.normal(size=(n, 4)), np.ones(n)])
    user = np.repeat(np.arange(users), n // users)
    theta = draw.normal(size=(users, 2)) @ draw.normal(size=(2, 5))
    y = np.sum(z * theta[user], axis=1) + 0.5 * draw.normal(size=n)
    data = compress_rows(FeatureRows(z, y / y.std(), user, user), np.ones(n), levels=False)
    groups = np.array([0, 0, 0, 0, 1])
    scales = learn_scales(data, groups)
    away = []
    for strength in (1e9, 100.0, 1.0):
        prior = learn_variances(data, LearningOptions(groups, "inverse_wishart", shrinkage=strength, rounds=12), scales)
        away.append(float(np.linalg.norm(prior.deviation - np.diag(scales.deviation))))
    assert away[0] < 1e-5
    assert away[0] < away[1] < away[2]


def test_few_users_are_not_compared_and_dear_ones_are_sampled(monkeypatch):
    model = build(variance_head=False).fit(taste_examples(users=6), rng=0)
    assert (model.structure.covariance, model.notes) == ("isotropic", [])
    examples = taste_examples(users=30, queries=2, seed=34)
    monkeypatch.setattr("bestfor.rewards.hierarchical.structure.WORK", 1.0)
    monkeypatch.setattr("bestfor.rewards.hierarchical.structure.ENOUGH", 14)
    dear = build(variance_head=False).fit(examples, rng=0)
    assert dear.structure.covariance in ("none", "isotropic")
    assert len(dear.notes) == 1


def test_where_there_is_nothing_to_tell_users_apart_nothing_free_is_chosen():
    """Users of a single label each, of texts that look alike."""
    rows = FeatureRows(
        np.tile([0.0, 1.0], (20, 1)), rng.derive(35, "labels").normal(size=20), np.arange(20), np.arange(20)
    )
    data, groups = compress_rows(rows, np.ones(20), levels=False), np.array([0, 1])
    found = choose_structure(
        data, learn_scales(data, groups), Structure("isotropic", 60.0, 0.5, ("told",)), groups, rng=0
    )
    assert found.covariance in ("none", "isotropic")
    assert found.slopes == 0.5
    assert found.notes[0] == "told"


@pytest.mark.parametrize("change", [{"covariance": "auto"}, {"shrinkage": -1.0}, {"query_slopes": float("inf")}])
def test_what_is_no_structure_is_not_restored(change):
    state = {"covariance": "full", "shrinkage": 60.0, "query_slopes": 0.0}
    assert restore_structure(state) == Structure("full", 60.0)
    with pytest.raises(ValueError, match="a covariance"):
        restore_structure({**state, **change})
