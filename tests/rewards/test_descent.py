"""The gradient of a batch against finite differences of the whole objective, and what decides the bits."""

import numpy as np
import pytest
import torch

from bestfor.rewards import Point
from bestfor.rewards.heads.gaussian import Config
from bestfor.rewards.heads.labels import build_labels
from bestfor.rewards.heads.model import training_of
from bestfor.rewards.heads.training import Descent, train
from bestfor.rewards.model import canonical
from bestfor.testing.rewards import LetterEncoder, taste_examples


def labels_of(seed=0):
    examples = canonical(taste_examples(users=4, queries=3, candidates=6, seed=seed))
    values = LetterEncoder().encode([examples.texts[code] for code in examples.text]).astype(float)
    return build_labels(values, examples, examples.utility.mean(), examples.utility.std())


@pytest.mark.parametrize("objective", ["squared", "nll", "natural", "pairwise"])
def test_gradients_are_finite_differences(objective):
    training = training_of(Config(hidden=3), objective, warm_up=0)
    run = Descent(labels_of(), training, 0)
    draw = np.random.default_rng(0)
    with torch.no_grad():
        for name, value in run.weights.items():
            run.weights[name] = (value + torch.from_numpy(0.3 * draw.normal(size=tuple(value.shape)))).double()
    run.x, run.y = run.x.double(), run.y.double()
    rows, other = torch.arange(40), torch.arange(1, 41)
    for name in run.trained:
        value = run.weights[name].requires_grad_()
        total = run.losses(rows, other, run.weights, warming=False).mean()
        (gradient,) = torch.autograd.grad(total, value)
        index = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                moved = {**run.weights, name: value.detach().clone()}
                moved[name][index] += sign * 1e-5
                ends.append(float(run.losses(rows, other, moved, warming=False).mean()))
        assert float(gradient[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_bits_do_not_depend_on_threads():
    training = training_of(Config(hidden=3, epochs=3), "nll", warm_up=1)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(train(labels_of(), training, 0).weights)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


def test_known_epochs_hold_nothing_out():
    labels, training = labels_of(), training_of(Config(), "squared")
    trained = train(labels, training, 0, epochs=2)
    assert (trained.epochs, trained.noise) == (2, 1.0)
    again = train(labels, training_of(Config(held_out=0.5), "squared"), 0, epochs=2)
    np.testing.assert_array_equal(trained.weights["own"], again.weights["own"])


def test_seeds_differ():
    examples = taste_examples(users=4)
    options = {"encoder": LetterEncoder(), "components": 4, "epochs": 2}
    first, second = (Point(**options).fit(examples, rng=seed).predict(examples) for seed in (0, 1))
    assert not np.array_equal(first.mean, second.mean)
