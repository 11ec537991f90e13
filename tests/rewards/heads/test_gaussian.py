from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards import Gaussian
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples


class TestGaussian(RewardModelTests):
    model = Gaussian
    options: ClassVar = {"components": 8, "hidden": 4, "epochs": 4, "warm_up": 2}


class TestNatural(RewardModelTests):
    model = Gaussian
    options: ClassVar = {"components": 8, "hidden": 0, "epochs": 4, "warm_up": 2, "loss": "natural"}


class TestAlone(RewardModelTests):
    model = Gaussian
    options: ClassVar = {"components": 8, "epochs": 4, "warm_up": 2, "loss": "nll", "shared": False}


@pytest.mark.parametrize("loss", ["nll", "beta_nll", "natural"])
def test_noisy_labels_are_told_from_clean_ones(loss):
    draw = rng.derive(1, "noisy")
    examples = taste_examples(users=12, queries=10, candidates=8, seed=1)
    loud = np.array([examples.texts[code].count("a") >= 3 for code in examples.text])
    noisy = examples.utility + np.where(loud, 3.0, 0.0) * draw.normal(size=len(examples))
    fit, unseen = examples.candidate < 6, examples.candidate >= 6
    model = Gaussian(components=16, encoder=LetterEncoder(), loss=loss, warm_up=3, epochs=40)
    estimate = model.fit(replace(examples, utility=noisy).take(fit), rng=0).predict(examples)
    assert estimate.std[loud].mean() > 1.3 * estimate.std[~loud].mean()
    z = ((noisy - estimate.mean) / estimate.std)[unseen]
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.4)
