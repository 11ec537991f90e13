"""How labels lose what everybody makes of a shared text."""

import numpy as np

from bestfor import rng
from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.texts import without_text_effects
from bestfor.rewards.hierarchical.users import fit_posteriors
from bestfor.rewards.hierarchical.variances import Prior
from bestfor.rewards.linear.pooled import INTERCEPT_VARIANCE, solve_ridge
from bestfor.rewards.rows import FeatureRows

USERS, TEXTS = 30, 24


def shared_rows(effect, seed=3, noise=0.4):
    """Everybody rates every text: z'w of five features, the text's own effect, noise."""
    draw = rng.derive(seed, "texts")
    features = np.column_stack([draw.normal(size=(TEXTS, 5)), np.ones(TEXTS)])
    told, own = features @ np.array([0.6, -0.4, 0, 0, 0, 0]), effect * draw.normal(size=TEXTS)
    text, user = np.tile(np.arange(TEXTS), USERS), np.repeat(np.arange(USERS), TEXTS)
    y = (told + own)[text] + noise * draw.normal(size=len(text))
    return FeatureRows(features[text], y, user, user.copy()), text, own


def test_effects_are_those_of_dense_least_squares():
    """Best linear unbiased prediction of v from the covariance of all labels, at the variances that were found."""
    rows, text, own = shared_rows(0.8)
    found, ridge = without_text_effects(rows, text), solve_ridge(rows, text)
    assert (found.variance, found.text is text) == (ridge.text, True)
    slopes = np.array([ridge.slope] * 5 + [INTERCEPT_VARIANCE * ridge.noise])
    alike = (text[:, None] == text).astype(float) * ridge.text
    cover = (rows.z * slopes) @ rows.z.T + alike + ridge.query * (rows.query[:, None] == rows.query)
    cover[np.diag_indices(len(text))] += ridge.noise
    expected = alike @ np.linalg.solve(cover, rows.y)
    assert np.allclose(rows.y - found.rows.y, expected, atol=1e-6)
    assert np.corrcoef(expected, own[text])[0, 1] > 0.8


def test_doubt_counts_texts_and_not_labels():
    """With independent rows theta_0 is known far better than two dozen texts can tell."""
    rows, text, _ = shared_rows(0.8)
    effects = without_text_effects(rows, text)
    prior = Prior(np.full(6, 1e-8), np.array([0.5] * 5 + [100.0]), 0.16, 0.0)
    plain = fit_posteriors(compress_rows(effects.rows, np.ones(len(text)), levels=False), prior)
    found = effects.correct(plain)
    assert np.all(np.diag(found.shared_covariance)[:5] > 5 * np.diag(plain.shared_covariance)[:5])
    assert found.shared_covariance is effects.covariance
    assert np.allclose(np.linalg.solve(found.normal, found.right), plain.shared, atol=1e-6)
    error = np.linalg.norm((plain.shared - np.array([0.6, -0.4, 0, 0, 0, 0]))[:5])
    assert error < 3 * np.sqrt(np.trace(found.shared_covariance[:5, :5]))


def test_texts_of_one_rater_each_are_left_alone():
    rows, _, _ = shared_rows(0.8)
    found = without_text_effects(rows, np.arange(len(rows.y)))
    assert found.rows is rows
    assert (found.variance, found.covariance) == (0.0, None)
    posteriors = fit_posteriors(
        compress_rows(rows, np.ones(len(rows.y)), levels=False), Prior(np.full(6, 0.1), np.full(6, 0.1), 0.2, 0.0)
    )
    assert found.correct(posteriors) is posteriors
