import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from support import later

torch, losses = later("torch"), later("bestfor.rewards.heads.losses", "torch")

finite = st.floats(-3, 3)


def at(*values):
    return [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values]


def test_golden_likelihood():
    mean, log_variance, target = at(0.0, np.log(4.0), 2.0)
    value = losses.gaussian_nll(mean, log_variance, target)
    by_mean, by_log_variance = torch.autograd.grad(value.sum(), (mean, log_variance))
    assert value.item() == pytest.approx(1.1931472, abs=1e-7)
    assert by_mean.item() == pytest.approx(-0.5)
    assert by_log_variance.item() == pytest.approx(0.0)


def test_golden_beta_likelihood():
    mean, log_variance, target = at(0.0, np.log(4.0), 2.0)
    half = losses.gaussian_nll(mean, log_variance, target, 0.5)
    assert half.item() == pytest.approx(2.3862944, abs=1e-7)
    assert torch.autograd.grad(half.sum(), mean)[0].item() == pytest.approx(-1.0)
    full = losses.gaussian_nll(mean, log_variance, target, 1.0).sum()
    plain = losses.squared_error(mean, target).sum()
    assert torch.autograd.grad(full, mean)[0].item() == pytest.approx(torch.autograd.grad(plain, mean)[0].item())


@given(finite, finite, finite)
def test_likelihood_is_that_of_scipy(mean, log_variance, target):
    value = losses.gaussian_nll(*at(mean, log_variance, target)).item()
    expected = -stats.norm(mean, np.exp(log_variance / 2)).logpdf(target) - 0.5 * np.log(2 * np.pi)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(finite, finite, finite, st.sampled_from([0.0, 0.5, 1.0]))
def test_gradients_are_finite_differences_with_the_weight_held(mean, log_variance, target, beta):
    values = at(mean, log_variance, target)
    found = torch.autograd.grad(losses.gaussian_nll(*values, beta).sum(), values[:2])
    weight, step = np.exp(beta * log_variance), 1e-5
    for index in (0, 1):
        ends = []
        for sign in (1, -1):
            moved = [mean, log_variance, target]
            moved[index] += sign * step
            ends.append(weight * losses.gaussian_nll(*at(*moved)).item())
        assert found[index].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-5)


@given(finite, finite)
def test_pairwise_loss_is_the_logistic_and_antisymmetric(better, worse):
    values = at(better, worse)
    loss = losses.pairwise_logistic(*values)
    assert loss.item() == pytest.approx(-np.log(1 / (1 + np.exp(worse - better))))
    first, second = torch.autograd.grad(loss.sum(), values)
    assert first.item() == pytest.approx(-second.item())
    assert first.item() == pytest.approx(-1 / (1 + np.exp(better - worse)))


@given(finite, st.floats(-20, 20))
def test_natural_parameters_are_those_of_a_gaussian(first, second):
    mean, log_variance = losses.natural_moments(*at(first, second))
    precision = np.exp(-log_variance.item())
    assert mean.item() * precision == pytest.approx(first, abs=1e-9)
    assert precision > 0
    assert losses.natural_moments(*at(0.7, 0.0))[0].item() == pytest.approx(0.7)


def test_extreme_log_variances_do_not_overflow():
    logs = losses.clamped(torch.tensor([-1e9, 1e9]))
    value = losses.gaussian_nll(torch.zeros(2), logs, torch.full((2,), 3.0), 0.5)
    assert torch.isfinite(value).all()
