import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestfor.rewards.features.nearness import Nearness, unit_kernel
from support import later

text = later("sklearn.feature_extraction.text")


TEXTS = ("Ban plastic bags", "ban the plastic bag", "More buses to the airport", "Taxes", "")


def vectors(count, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, 6))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_kernel_is_the_rational_quadratic():
    left, right = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(unit_kernel(left, right, 0.5)[0], [1, 1 / (1 + 2 / 0.5), 1 / (1 + 4 / 0.5)])


def test_spelling_is_the_cosine_of_weighted_letter_groups():
    """Hashing into 2^15 buckets may merge a few groups, so agreement is close, not exact."""
    nearness = Nearness.fit(TEXTS, 0.5, 1.0)
    looks = nearness.represent(TEXTS, vectors(5))
    spelled = 2 * nearness.between(looks, looks) - unit_kernel(looks.vectors, looks.vectors, 0.5)
    reference = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit_transform(TEXTS)
    np.testing.assert_allclose(spelled, (reference @ reference.T).toarray(), atol=0.02)
    assert spelled[0, 1] > 0.3 > spelled[0, 2]


def test_without_weight_spelling_is_not_looked_at():
    plain = Nearness.fit(TEXTS, 0.5, 0.0)
    looks = plain.represent(TEXTS, vectors(5))
    np.testing.assert_array_equal(plain.between(looks, looks), unit_kernel(looks.vectors, looks.vectors, 0.5))
    assert looks.spelled.nnz == 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(max_size=30), min_size=2, max_size=6), st.floats(0.1, 2))
def test_the_kernel_is_a_kernel(texts, weight):
    nearness = Nearness.fit(texts, 0.5, weight)
    looks = nearness.represent(texts, vectors(len(texts)))
    near = nearness.between(looks, looks)
    assert near.min() >= -1e-12
    assert near.max() <= 1 + 1e-9
    assert np.linalg.eigvalsh(near).min() > -1e-9
    some = np.arange(len(texts) - 1)
    np.testing.assert_allclose(nearness.between(looks.take(some), looks), near[:-1], atol=1e-12)
    joined = looks.take(some).join(looks.take(np.array([len(texts) - 1])))
    np.testing.assert_allclose(nearness.between(joined, joined), near, atol=1e-12)


def test_fit_texts_alone_weigh_the_groups():
    nearness = Nearness.fit(TEXTS, 0.5, 0.3)
    before = nearness.rarity.copy()
    nearness.represent(("zebra crossing",), vectors(1))
    np.testing.assert_array_equal(nearness.rarity, before)
    assert nearness.rarity.max() == pytest.approx(np.log(6) + 1)
