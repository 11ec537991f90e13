"""Held-out errors of users' own heads and of the shared one, by hand from the trained weights."""

import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.heads.bradley_terry import Config
from bestfor.rewards.heads.labels import build_labels, with_everybody
from bestfor.rewards.heads.model import training_of
from bestfor.rewards.heads.training import train
from bestfor.rewards.model import canonical
from bestfor.testing.rewards import LetterEncoder, taste_examples


def labels_of(queries):
    examples = canonical(taste_examples(users=4, queries=queries, candidates=12, seed=1))
    values = LetterEncoder().encode([examples.texts[code] for code in examples.text]).astype(np.float64)
    return build_labels(values, examples, examples.utility.mean(), examples.utility.std())


def trained(labels, objective, **options):
    settings = {"hidden": 0, "held_out": 0.4, "epochs": 3, "refit": False, "rate": 0.05, "abstain": True, **options}
    training = training_of(Config(**settings), objective)
    found = train(labels if training.shared else with_everybody(labels), training, 0)
    kept, held = labels.hold_out(0.4, rng.derive(0, "held out"))
    return found, kept, held


def rewards(labels, weights, shared):
    columns = np.column_stack([labels.values, np.ones(len(labels.target))])
    stranger = weights["shared"] if shared else weights["own"][labels.users]
    personal = np.sum(columns * (weights["shared"] + weights["own"][labels.user]), axis=1)
    return personal, columns @ stranger


@pytest.mark.parametrize("queries", [1, 3])
def test_errors_are_those_of_both_heads_without_levels(queries):
    labels = labels_of(queries)
    found, kept, held = trained(labels, "squared")
    user, *errors = found.held
    np.testing.assert_array_equal(user, labels.user[held])
    for error, reward in zip(errors, rewards(labels, found.weights, shared=True), strict=True):
        missed = labels.target - reward
        level = np.array([missed[kept][labels.query[kept] == labels.query[row]].mean() for row in held])
        np.testing.assert_allclose(error, missed[held] - level * (queries > 1), atol=1e-5)


def test_everybody_as_a_user_is_who_strangers_get():
    labels = labels_of(1)
    found, _, _ = trained(labels, "squared", shared=False)
    user, personal, shared = found.held
    assert user.max() == labels.users - 1
    assert len(user) == len(personal) == len(shared)
    own, others = rewards(labels, found.weights, shared=False)
    possible = labels.target[labels.user == 2]
    for error, reward in ((personal, own), (shared, others)):
        misses = possible - reward[labels.user == 2]
        assert all(np.min(np.abs(misses - value)) < 1e-5 for value in error[user == 2])


def test_pairs_are_judged_by_the_logistic_loss():
    labels = labels_of(1)
    found, _, held = trained(labels, "pairwise")
    _, personal, shared = found.held
    for error, reward in zip((personal, shared), rewards(labels, found.weights, shared=True), strict=True):
        for row, value in zip(held, error, strict=True):
            others = np.flatnonzero((labels.user == labels.user[row]) & (np.arange(len(labels.user)) != row))
            sign = np.sign(labels.target[row] - labels.target[others])
            losses = np.logaddexp(0, sign * (reward[others] - reward[row]))
            assert losses.min() - 1e-5 < value**2 < losses.max() + 1e-5


def test_nobody_is_judged_who_did_not_ask():
    assert trained(labels_of(1), "squared", abstain=False)[0].held is None
    assert trained(labels_of(1), "squared", held_out=0.0)[0].held is None
