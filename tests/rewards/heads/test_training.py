"""Training of heads: gradients against finite differences, bits, and held-out errors by hand from the weights."""

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards import Point
from bestfor.rewards.heads import bradley_terry, build_labels, training_options, with_pooled_user
from bestfor.rewards.heads.gaussian import Config
from bestfor.rewards.rows import canonical
from bestfor.testing.rewards import LetterEncoder, taste_examples
from support import later

torch, heads_training = later("torch"), later("bestfor.rewards.heads.training", "torch")


def labels_of(queries=3, candidates=6, seed=0):
    examples = canonical(taste_examples(users=4, queries=queries, candidates=candidates, seed=seed))
    values = LetterEncoder().encode([examples.texts[code] for code in examples.text]).astype(np.float64)
    return build_labels(values, examples, examples.utility.mean(), examples.utility.std())


@pytest.mark.parametrize("objective", ["squared", "nll", "natural", "pairwise"])
def test_gradients_are_finite_differences(objective):
    training = training_options(Config(hidden=3), objective, warm_up=0)
    run = heads_training.HeadTrainer(labels_of(), training, 0)
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
    training = training_options(Config(hidden=3, epochs=3), "nll", warm_up=1)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(heads_training.train(labels_of(), training, 0).weights)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])


def test_known_epochs_hold_nothing_out():
    labels, training = labels_of(), training_options(Config(), "squared")
    trained = heads_training.train(labels, training, 0, epochs=2)
    assert (trained.epochs, trained.noise) == (2, 1.0)
    again = heads_training.train(labels, training_options(Config(held_out=0.5), "squared"), 0, epochs=2)
    np.testing.assert_array_equal(trained.weights["own"], again.weights["own"])


def test_seeds_differ():
    examples = taste_examples(users=4)
    options = {"encoder": LetterEncoder(), "components": 4, "epochs": 2}
    first, second = (Point(**options).fit(examples, rng=seed).predict(examples) for seed in (0, 1))
    assert not np.array_equal(first.mean, second.mean)


def held_out(labels, objective, **options):
    settings = {"hidden": 0, "held_out": 0.4, "epochs": 3, "refit": False, "rate": 0.05, "abstain": True, **options}
    training = training_options(bradley_terry.Config(**settings), objective)
    found = heads_training.train(labels if training.shared else with_pooled_user(labels), training, 0)
    kept, held = labels.hold_out(0.4, rng.derive(0, "held out"))
    return found, kept, held


def rewards(labels, weights, shared):
    columns = np.column_stack([labels.values, np.ones(len(labels.target))])
    others = weights["shared"] if shared else weights["own"][labels.users]
    personal = np.sum(columns * (weights["shared"] + weights["own"][labels.user]), axis=1)
    return personal, columns @ others


@pytest.mark.parametrize("queries", [1, 3])
def test_errors_are_those_of_both_heads_without_levels(queries):
    labels = labels_of(queries, 12, seed=1)
    found, kept, held = held_out(labels, "squared")
    user, *errors = found.held
    np.testing.assert_array_equal(user, labels.user[held])
    for error, reward in zip(errors, rewards(labels, found.weights, shared=True), strict=True):
        missed = labels.target - reward
        level = np.array([missed[kept][labels.query[kept] == labels.query[row]].mean() for row in held])
        np.testing.assert_allclose(error, missed[held] - level * (queries > 1), atol=1e-5)


def test_everybody_as_a_user_is_the_head_of_users_without_labels():
    labels = labels_of(1, 12, seed=1)
    found, _, _ = held_out(labels, "squared", shared=False)
    user, personal, shared = found.held
    assert user.max() == labels.users - 1
    assert len(user) == len(personal) == len(shared)
    own, others = rewards(labels, found.weights, shared=False)
    possible = labels.target[labels.user == 2]
    for error, reward in ((personal, own), (shared, others)):
        misses = possible - reward[labels.user == 2]
        assert all(np.min(np.abs(misses - value)) < 1e-5 for value in error[user == 2])


def test_pairs_are_judged_by_the_logistic_loss():
    labels = labels_of(1, 12, seed=1)
    found, _, held = held_out(labels, "pairwise")
    _, personal, shared = found.held
    for error, reward in zip((personal, shared), rewards(labels, found.weights, shared=True), strict=True):
        for row, value in zip(held, error, strict=True):
            others = np.flatnonzero((labels.user == labels.user[row]) & (np.arange(len(labels.user)) != row))
            sign = np.sign(labels.target[row] - labels.target[others])
            losses = np.logaddexp(0, sign * (reward[others] - reward[row]))
            assert losses.min() - 1e-5 < value**2 < losses.max() + 1e-5


def test_nobody_is_judged_who_did_not_ask():
    assert held_out(labels_of(1, 12, seed=1), "squared", abstain=False)[0].held is None
    assert held_out(labels_of(1, 12, seed=1), "squared", held_out=0.0)[0].held is None
