"""Posteriors of weights: closed form against brute force, preferences against quadrature."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bestfor import rng
from bestfor.rewards.posterior import (
    Belief,
    ComparedTexts,
    PreferredRows,
    RatedRows,
    as_ratings,
    condition,
    learn,
    left_out_log_densities,
    log_probit,
    no_preferences,
    no_ratings,
)

ONE = Belief(np.zeros(1), np.eye(1))


def preferences(rows, noise=1.0):
    rows = np.atleast_2d(np.asarray(rows, dtype=float))
    return PreferredRows(rows, np.full(len(rows), noise))


def random_belief(draw, p):
    root = draw.normal(size=(p, p))
    return Belief(draw.normal(size=p), root @ root.T / p + 0.1 * np.eye(p))


def random_ratings(draw, n, p, *, level=0.4, slope=0.3, queries=3):
    x = np.column_stack([draw.normal(size=(n, p - 1)), np.ones(n)])
    return RatedRows(x, draw.normal(size=n), draw.uniform(0.2, 2, size=n), draw.integers(queries, size=n), level, slope)


def test_one_preference_is_exact():
    found = learn(ONE, no_ratings(1), preferences([[1.0]]))
    assert found.mean[0] == pytest.approx(0.5641896, abs=1e-7)
    assert found.mean[0] == pytest.approx(1 / np.sqrt(np.pi), abs=1e-12)
    assert found.covariance[0, 0] == pytest.approx(0.6816901, abs=1e-7)
    assert found.covariance[0, 0] == pytest.approx(1 - 1 / np.pi, abs=1e-12)


def moments_1d(mean, variance, rated, rows, noise):
    """Posterior mean and variance by quadrature; ``rated`` are (x, y, noise)."""

    def density(w):
        logs = stats.norm.logpdf(w, mean, np.sqrt(variance)) + log_probit(np.array(rows) * w / np.sqrt(noise)).sum()
        return np.exp(logs + sum(stats.norm.logpdf(y, x * w, np.sqrt(v)) for x, y, v in rated))

    total, first, second = (
        integrate.quad(lambda w, k=k: w**k * density(w), -12, 12, epsabs=1e-13, limit=200, points=[0.0])[0]
        for k in range(3)
    )
    return first / total, second / total - (first / total) ** 2


@pytest.mark.parametrize(
    ("rows", "noise", "tolerance"),
    [([1.0], 0.5, 1e-10), ([-2.0], 1.0, 1e-10), ([1.0, -1.0], 1.0, 0.02), ([1.0, 1.5, -0.5, 2.0], 2.0, 0.02)],
)
def test_preferences_and_ratings_agree_with_quadrature_in_one_dimension(rows, noise, tolerance):
    belief = Belief(np.array([0.3]), np.array([[1.4]]))
    rated = RatedRows(np.array([[1.0], [0.5]]), np.array([0.8, -0.1]), np.array([0.7, 1.1]), np.arange(2))
    given_ratings = list(zip([1.0, 0.5], rated.y, rated.noise, strict=True))
    for said, listed in ((no_ratings(1), []), (rated, given_ratings)):
        found = learn(belief, said, preferences(np.array(rows)[:, None], noise))
        mean, variance = moments_1d(0.3, 1.4, listed, rows, noise)
        assert found.mean[0] == pytest.approx(mean, abs=tolerance)
        assert found.covariance[0, 0] == pytest.approx(variance, abs=tolerance)


@pytest.mark.parametrize("rows", [[[1.0, -0.5]], [[1.0, 0.0], [0.3, -1.0]], [[1.0, 0.2], [0.8, 1.0], [-0.5, 1.5]]])
def test_preferences_agree_with_quadrature_in_two_dimensions(rows):
    belief = Belief(np.array([0.2, -0.4]), np.array([[1.0, 0.3], [0.3, 0.8]]))
    grid = np.linspace(-6, 6, 601)
    w = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = stats.multivariate_normal.logpdf(w, belief.mean, belief.covariance)
    logs = logs + log_probit(w @ np.array(rows).T / np.sqrt(0.7)).sum(axis=1)
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    mean = weight @ w
    covariance = (w - mean).T @ (weight[:, None] * (w - mean))
    found = learn(belief, no_ratings(2), preferences(rows, 0.7))
    exact = len(rows) == 1
    np.testing.assert_allclose(found.mean, mean, atol=1e-7 if exact else 5e-3)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-7 if exact else 0.02)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 14), p=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_ratings_are_the_normal_equations(seed, n, p):
    """Also where more ratings than columns are reduced first."""
    draw = rng.derive(seed, "normal")
    belief, rated = random_belief(draw, p), random_ratings(draw, n, p)
    inverse, cover = np.linalg.inv(belief.covariance), np.linalg.inv(rated.cover())
    covariance = np.linalg.inv(inverse + rated.x.T @ cover @ rated.x)
    mean = covariance @ (inverse @ belief.mean + rated.x.T @ cover @ rated.y)
    found = condition(belief, rated)
    np.testing.assert_allclose(found.mean, mean, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-8)


def test_labels_of_one_prompt_share_a_level():
    rated = random_ratings(rng.derive(0, "level"), 4, 3, queries=1)
    features = rated.x[:, :2]
    expected = np.diag(rated.noise) + 0.4 + 0.3 * features @ features.T
    np.testing.assert_allclose(rated.cover(), expected)
    apart = RatedRows(rated.x, rated.y, rated.noise, np.arange(4), 0.4, 0.3)
    np.testing.assert_allclose(apart.cover(), np.diag(np.diag(expected)))


@pytest.mark.parametrize("count", [3, 40])
def test_the_order_of_preferences_changes_nothing(count):
    """Few are worked on as differences, many as weights."""
    draw = rng.derive(2, "preferences", count)
    belief, rows = random_belief(draw, 5), draw.normal(size=(count, 5))
    found = learn(belief, no_ratings(5), preferences(rows))
    mixed = learn(belief, no_ratings(5), preferences(rows[draw.permutation(count)]))
    np.testing.assert_allclose(found.mean, mixed.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.covariance, mixed.covariance, rtol=1e-9, atol=1e-9)


def test_both_ways_to_work_on_preferences_are_one():
    draw = rng.derive(3, "both")
    belief, rows = random_belief(draw, 3), draw.normal(size=(3, 3))
    few = learn(belief, no_ratings(3), preferences(rows))
    wide = Belief(np.append(belief.mean, 0.0), np.pad(belief.covariance, (0, 1)) + np.diag([0, 0, 0, 1.0]))
    more = learn(wide, no_ratings(4), preferences(np.vstack([np.pad(rows, ((0, 0), (0, 1))), np.eye(4)[[3, 3]]])))
    np.testing.assert_allclose(more.mean[:3], few.mean, atol=1e-9)
    np.testing.assert_allclose(more.covariance[:3, :3], few.covariance, atol=1e-9)


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_a_preference_that_is_repeated_settles(count):
    found = learn(ONE, no_ratings(1), preferences(np.ones((count, 1))))
    mean, variance = moments_1d(0.0, 1.0, [], np.ones(count), 1.0)
    assert found.mean[0] == pytest.approx(mean, rel=0.01)
    assert found.covariance[0, 0] == pytest.approx(variance, rel=0.25)  # a skewed posterior, taken for a normal one


def test_left_out_densities_are_those_of_a_fit_without_the_label():
    draw = rng.derive(4, "left out")
    belief, rated = random_belief(draw, 3), random_ratings(draw, 6, 3)
    found = left_out_log_densities(belief, [rated], no_preferences(3))
    cover = rated.x @ belief.covariance @ rated.x.T + rated.cover()
    for row in range(6):
        others = np.arange(6) != row
        pull = np.linalg.solve(cover[np.ix_(others, others)], cover[others, row])
        rest = rated.y - rated.x @ belief.mean
        variance = cover[row, row] - cover[row, others] @ pull
        assert found[row] == pytest.approx(stats.norm.logpdf(rest[row], pull @ rest[others], np.sqrt(variance)))
    one = preferences([[1.0, 0.5, 0.0]])
    both = left_out_log_densities(belief, [rated], one)
    known = condition(belief, rated)
    width = np.sqrt(1 + (one.x @ known.covariance @ one.x.T)[0, 0])
    assert both[-1] == pytest.approx(stats.norm.logcdf((one.x @ known.mean)[0] / width), abs=1e-9)


def compared(draw, texts, k, p):
    """Preferences between few texts, with an intercept that no difference has."""
    x = np.column_stack([draw.normal(size=(texts, p - 1)), np.ones(texts)])
    better = draw.integers(texts, size=k)
    worse = (better + draw.integers(1, texts, size=k)) % texts
    return PreferredRows(x[better] - x[worse], draw.uniform(0.5, 3, size=k), ComparedTexts(x, better, worse))


@given(seed=st.integers(0, 10**6), texts=st.integers(2, 9), p=st.integers(2, 6), level=st.sampled_from([1.0, 1e6]))
@settings(max_examples=30, deadline=None)
def test_sites_by_texts_are_those_by_differences(seed, texts, p, level):
    draw = rng.derive(seed, "texts")
    said, belief = compared(draw, texts, 40, p), random_belief(draw, p)
    belief.covariance[-1, -1] += level
    found, expected = (as_ratings(belief, one) for one in (said, PreferredRows(said.x, said.noise)))
    np.testing.assert_allclose(found.noise, expected.noise, rtol=1e-7)
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-7, atol=1e-7)


def test_texts_of_two_sets_of_preferences_join():
    draw = rng.derive(0, "join")
    one, two = compared(draw, 4, 6, 3).texts, compared(draw, 5, 3, 3).texts
    assert one is not None
    assert two is not None
    both = one.join(two)
    parts = [part.difference(part.x) for part in (one, two)]
    np.testing.assert_array_equal(both.difference(both.x), np.vstack(parts))


@pytest.mark.parametrize("queries", [1, 4, 200])
def test_labels_without_levels_are_whitened_at_once(queries):
    rated = random_ratings(rng.derive(1, "white"), 200, 3, level=0.0, slope=0.0, queries=queries)
    order = np.argsort(rated.query, kind="stable")
    root = np.linalg.cholesky(rated.take(order).cover())
    white = np.linalg.solve(root, np.column_stack([rated.x, rated.y])[order])
    reduced = rated.reduced()
    expected = np.linalg.qr(white, mode="r")[:3]
    np.testing.assert_allclose(np.column_stack([reduced.x, reduced.y]), expected, rtol=1e-12, atol=1e-13)
