from dataclasses import replace

import numpy as np
import pytest

from bestfor.data.world import World, build, noise_std, true_utility
from bestfor.errors import InputError
from bestfor.metrics.base import Metric, Query
from bestfor.metrics.taste import Taste

WORLD = World(seed=3, users=4, queries=1, noise_sd=0.3, noise="equal")


@pytest.fixture(scope="module")
def texts():
    return [f"{row['output']}" for row in build(WORLD).histories.to_pylist()][:40]


@pytest.fixture(scope="module")
def query():
    row = build(WORLD).queries.to_pylist()[2]
    return Query(row["query_id"], row["user_id"], row["input"])


def test_test_queries_get_the_truth(query, texts):
    found = Taste(WORLD).measure(query, texts)
    assert np.array_equal(found, true_utility(WORLD, query.user_id, query.input, texts))
    assert np.std(found) > 0


def test_fit_queries_get_labels_with_the_worlds_noise(query, texts):
    fit = replace(query, split="fit")
    distinct = list(dict.fromkeys(texts))
    error = Taste(WORLD).measure(fit, distinct) - true_utility(WORLD, query.user_id, query.input, distinct)
    error /= noise_std(WORLD, query.user_id, query.input, distinct)
    assert 0.7 < np.std(error) < 1.3
    assert abs(np.mean(error)) < 0.5
    again = Taste(WORLD).measure(fit, distinct[::-1])[::-1]
    assert np.array_equal(again, Taste(WORLD).measure(fit, distinct))


def test_strangers_are_named(query):
    with pytest.raises(InputError, match="nobody"):
        Taste(WORLD).measure(replace(query, user_id="nobody"), ["x"])


def test_the_signature_knows_the_world():
    assert isinstance(Taste(WORLD), Metric)
    assert Taste(WORLD).signature != Taste(replace(WORLD, noise_sd=0.1)).signature
