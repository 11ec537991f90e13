"""Letter groups: scikit-learn's counts, and products of rows to the same bits whichever way they are taken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from bestfor import rng
from bestfor.rewards.features.nearness import NARROW, spelled_products
from bestfor.rewards.features.spelling import BUCKETS, GRAMS, count_grams
from support import later

text = later("sklearn.feature_extraction.text")
LETTERS = st.text(alphabet=st.characters(codec="utf-8"), max_size=40) | st.text(
    alphabet="aAb \t\u00a0ΣσİßI.,-", max_size=40
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LETTERS, max_size=4))
def test_counts_are_those_of_a_hashing_vectorizer(texts):
    found = count_grams(texts)
    assert found.shape == (len(texts), BUCKETS)
    if texts:
        how = {"analyzer": "char_wb", "ngram_range": GRAMS, "n_features": BUCKETS}
        expected = text.HashingVectorizer(**how, alternate_sign=False, norm=None).transform(texts)
        for name in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("sizes", [(3, 90), (90, 3), (NARROW + 1, NARROW + 1), (0, 5), (5, 0)])
def test_products_of_few_and_of_many_rows_have_the_same_bits(sizes):
    draw = rng.derive(0, "rows", *sizes)
    left, right = (
        sparse.csr_array(sparse.random_array((size, 200), density=0.1, rng=draw, format="csr")) for size in sizes
    )
    np.testing.assert_array_equal(spelled_products(left, right), (left @ right.T).toarray())
