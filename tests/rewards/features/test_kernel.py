import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.features.kernel import fit_kernel, rational_quadratic


def test_kernel_features_are_the_kernel():
    vectors = rng.derive(23, "vectors").normal(size=(30, 4))
    fit = fit_kernel(vectors, 0.7, components=30, landmarks=30, rng=0)
    features = fit.features(vectors) + fit.centre
    exact = rational_quadratic(vectors, vectors, 0.7)
    ratio = exact[0, 0] / float(features[0] @ features[0])
    np.testing.assert_allclose(ratio * features @ features.T, exact, atol=1e-6)
    np.testing.assert_allclose(fit.features(vectors).mean(axis=0), 0, atol=1e-12)
    assert np.mean(fit.features(vectors).var(axis=0)) == pytest.approx(1)
    some = fit_kernel(vectors, 0.7, components=5, landmarks=10, rng=0)
    assert some.features(vectors[:3]).shape == (3, 5)
    assert rational_quadratic(vectors[:1], vectors[1:2], 0.7)[0, 0] == pytest.approx(
        1 / (1 + np.sum((vectors[0] - vectors[1]) ** 2) / (2 * 0.49))
    )
