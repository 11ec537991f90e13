from dataclasses import replace

import numpy as np
import pytest

from bestfor.errors import InputError
from bestfor.rewards.features import CLIP, FeatureConfig, fit_space, restore_space
from bestfor.testing.rewards import LetterEncoder, taste_examples


def config(**options):
    return FeatureConfig(**{"encoder": "letters", "components": 6, **options})


def test_the_fit_part_does_not_see_the_test_part():
    whole = taste_examples(users=4, queries=3)
    rows = np.flatnonzero(whole.user < 2)
    kept = set(whole.text[rows])
    swapped = tuple(text if code in kept else f"OTHER {code}!" for code, text in enumerate(whole.texts))
    inputs = tuple(asked if code in set(whole.query[rows]) else "OTHER" for code, asked in enumerate(whole.inputs))
    spaces = [fit_space(config(), part.take(rows), LetterEncoder()) for part in (whole, replace(whole, texts=swapped))]
    spaces.append(fit_space(config(), replace(whole, inputs=inputs).take(rows), LetterEncoder()))
    for other in spaces[1:]:
        for name, values in spaces[0].arrays().items():
            np.testing.assert_array_equal(values, other.arrays()[name])
    part = whole.take(rows)
    np.testing.assert_array_equal(
        spaces[0].design(part, LetterEncoder()).rows(),
        spaces[1].design(replace(part, texts=swapped), LetterEncoder()).rows(),
    )


def test_axes_of_many_texts_are_those_of_a_decomposition_of_all(monkeypatch):
    examples = taste_examples(shared=True, queries=1, candidates=50)
    whole = fit_space(config(), examples, LetterEncoder())
    rows = whole.design(examples, LetterEncoder()).rows()
    monkeypatch.setattr("bestfor.rewards.features.space.CHUNK", 16)
    parts = fit_space(config(), examples, LetterEncoder())
    for name, values in whole.arrays().items():
        np.testing.assert_allclose(parts.arrays()[name], values, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(parts.design(examples, LetterEncoder()).rows(), rows, rtol=1e-6, atol=1e-7)


def test_columns_are_standard_over_distinct_texts():
    examples = taste_examples(shared=True, queries=1, candidates=200)
    design = fit_space(config(), examples, LetterEncoder()).design(examples, LetterEncoder())
    np.testing.assert_allclose(design.values[:, :6].mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(design.values[:, :6].std(axis=0), 1, atol=0.05)
    correlation = np.corrcoef(design.values[:, :6].T)
    np.testing.assert_allclose(correlation, np.eye(6), atol=0.05)
    assert np.abs(design.values).max() <= CLIP


def test_components_that_are_not_whitened_keep_their_ratios():
    examples = taste_examples(shared=True, queries=1, candidates=200)
    free = config(style=False, answer=False)
    white = fit_space(free, examples, LetterEncoder()).design(examples, LetterEncoder()).values
    space = fit_space(free.model_copy(update={"whiten": False}), examples, LetterEncoder())
    natural = space.design(examples, LetterEncoder()).values
    vectors = LetterEncoder().encode([examples.texts[code] for code in np.unique(examples.text)]).astype(float)
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T, ddof=0))[::-1][:6]
    np.testing.assert_allclose(natural.std(axis=0) ** 2, eigenvalues / eigenvalues.mean(), rtol=1e-3)
    np.testing.assert_allclose(natural, white * space.spread, atol=1e-9)
    assert space.spread[0] > 1 > space.spread[-1]


def test_outlying_texts_are_clipped_at_their_columns_own_scale():
    examples = taste_examples()
    for whiten in (True, False):
        space = fit_space(config(style=False, answer=False, whiten=whiten), examples, LetterEncoder())
        far = replace(space, centre=space.centre + 1e3 * space.axes[:, 0])
        values = far.design(examples, LetterEncoder()).values
        np.testing.assert_allclose(np.abs(values[:, 0]), CLIP * space.spread[0])


def test_features_that_never_vary_are_zero():
    examples = taste_examples()
    plain = replace(examples, texts=tuple("abcabc" for _ in examples.texts))
    design = fit_space(config(answer=False), plain, LetterEncoder()).design(plain, LetterEncoder())
    assert not design.values.any()


def test_inputs_add_columns_only_where_there_are_some():
    bare, asked = taste_examples(shared=True), taste_examples()
    sizes = [fit_space(config(), part, LetterEncoder()).size for part in (bare, asked)]
    assert sizes[1] - sizes[0] == 5
    assert fit_space(config(answer=False), asked, LetterEncoder()).size == sizes[0]


def test_no_components_need_no_encoder():
    examples = taste_examples()
    space = fit_space(config(components=0), examples, None)
    assert space.design(examples, None).values.shape[1] == space.size
    with pytest.raises(InputError, match="components = 0"):
        fit_space(config(), examples, None)


def test_another_encoder_is_refused():
    examples, other = taste_examples(), LetterEncoder()
    space = fit_space(config(), examples, LetterEncoder())
    other.signature = "letters-2"
    with pytest.raises(InputError, match=r"letters-2.*letters-1"):
        space.design(examples, other)


@pytest.mark.parametrize("whiten", [True, False])
def test_stored_space_is_the_same_and_foreign_shapes_are_refused(whiten):
    examples = taste_examples()
    space = fit_space(config(whiten=whiten), examples, LetterEncoder())
    again = restore_space(space.describe(), space.arrays())
    assert again.config.whiten == whiten
    np.testing.assert_array_equal(
        space.design(examples, LetterEncoder()).values, again.design(examples, LetterEncoder()).values
    )
    with pytest.raises(InputError, match="arrays of shapes"):
        restore_space(space.describe(), {**space.arrays(), "space.spread": np.ones(2)})
    with pytest.raises(InputError, match="arrays of shapes"):
        restore_space(space.describe(), {**space.arrays(), "space.shift": np.zeros(2)})
    with pytest.raises(InputError, match="incomplete"):
        restore_space(space.describe(), {})
