from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards import Ensemble
from bestfor.rewards.heads import build_labels
from bestfor.rewards.heads.ensemble import combine, resampled
from bestfor.rewards.rows import canonical
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples


class TestEnsemble(RewardModelTests):
    model = Ensemble
    less_doubt = False
    options: ClassVar = {"components": 8, "hidden": 4, "epochs": 3, "warm_up": 1, "members": 2}


class TestDeep(RewardModelTests):
    model = Ensemble
    less_doubt = False
    options: ClassVar = {
        "components": 4, "hidden": 4, "epochs": 3, "members": 2, "bootstrap": False, "loss": "squared"
    }  # fmt: skip


def fitted(examples, **options):
    return Ensemble(encoder=LetterEncoder(), **{"components": 8, "members": 3, "epochs": 6, **options}).fit(
        examples, rng=0
    )


def test_moments_are_those_of_the_mixture():
    draw = rng.derive(0, "mixture")
    means, variances = draw.normal(size=(4, 3)), draw.gamma(2.0, size=(4, 3))
    found = combine(means, variances, (2.0, 0.5))
    member = draw.integers(4, size=400_000)
    for column in range(3):
        sample = 2 + 0.5 * draw.normal(means[member, column], np.sqrt(variances[member, column]))
        assert found.mean[column] == pytest.approx(sample.mean(), abs=0.01)
        assert found.std[column] == pytest.approx(sample.std(), rel=0.01)
    np.testing.assert_allclose(found.std_mean, 0.5 * means.std(axis=0))


def test_the_penalty_takes_off_the_variance_between_members():
    examples = taste_examples(users=4)
    plain, careful = (fitted(examples, penalty=penalty).predict(examples) for penalty in (0.0, 2.0))
    np.testing.assert_allclose(careful.mean, plain.mean - 2.0 * plain.std_mean**2, rtol=1e-6)
    np.testing.assert_allclose(careful.std, plain.std)


def test_a_bootstrap_draws_as_many_labels_of_every_user():
    examples = canonical(taste_examples(users=5))
    labels = build_labels(np.zeros((len(examples), 1)), examples, 0.0, 1.0)
    drawn = resampled(labels, rng.derive(0, "draw"))
    np.testing.assert_array_equal(np.bincount(labels.user, drawn.weight), np.bincount(labels.user))
    assert drawn.weight.max() > 1
    assert np.mean(drawn.weight == 0) == pytest.approx(np.exp(-1), abs=0.1)


@pytest.mark.slow
def test_members_disagree_more_about_users_with_fewer_labels():
    examples = taste_examples(users=12, queries=3, candidates=8)
    few = examples.take((examples.user < 6) | (examples.candidate < 1))
    for bootstrap in (True, False):
        model = fitted(few, bootstrap=bootstrap, deviation=0.5, epochs=15)
        spread = model.predict(examples).std_mean
        assert np.all(spread > 0)
        if bootstrap:
            assert spread[examples.user < 6].mean() != spread[examples.user >= 6].mean()


def test_members_are_of_one_noise_and_their_own_seeds():
    examples = taste_examples(users=6)
    model = fitted(replace(examples, utility=examples.utility * 100))
    assert len({heads.noise for heads in model._heads}) == 1
    assert not np.array_equal(model._heads[0].mean, model._heads[1].mean)
