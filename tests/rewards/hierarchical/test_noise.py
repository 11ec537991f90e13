"""The noise head against a known noise."""

import numpy as np

from bestfor import rng
from bestfor.rewards.hierarchical.labels import compress_rows
from bestfor.rewards.hierarchical.left_out import left_out_rows
from bestfor.rewards.hierarchical.noise import fit_noise_head
from bestfor.rewards.hierarchical.users import fit_posteriors
from bestfor.rewards.hierarchical.variances import Prior
from bestfor.rewards.rows import FeatureRows


def test_noise_head_finds_who_is_noisy_and_its_gradient_is_right():
    draw = rng.derive(7, "head")
    columns = np.column_stack([draw.normal(size=(4000, 2)), np.ones(4000)])
    truth = np.array([0.8, 0.0, -1.0])
    user = np.zeros(4000, int)
    rows = FeatureRows(columns, np.sqrt(np.exp(columns @ truth) + 0.1) * draw.normal(size=4000), user, user)
    prior = Prior(np.full(3, 1e-9), np.full(3, 1e-9), 1.0, 0.0)
    size = np.ones(4000)
    left = left_out_rows(rows, size, fit_posteriors(compress_rows(rows, size, levels=False), prior))
    found = fit_noise_head(columns, left, np.full(4000, 0.1), ridge=0.1)
    np.testing.assert_allclose(found, truth, atol=0.12)
