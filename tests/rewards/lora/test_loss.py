import numpy as np
import pytest

from bestfor import rng
from bestfor.rewards.lora.config import Config
from support import later

lora_heads = later("bestfor.rewards.lora.heads", "torch")
torch = later("torch")


GROUP = (0, 0, 0, 1, 1, 2, 3, 3, 3, 3)
N, HIDDEN, USERS = len(GROUP), 5, 3


def data(seed=0):
    draw = rng.derive(seed, "loss")
    states = torch.from_numpy(draw.normal(size=(N, HIDDEN)) * 30)
    target = torch.from_numpy(draw.normal(size=N))
    user = torch.from_numpy(draw.integers(0, USERS, N))
    columns = lora_heads.Standardizer(torch.zeros(HIDDEN).double(), torch.full((HIDDEN,), 0.02).double()).columns(
        states
    )
    heads = lora_heads.LoraHeads.zero(USERS, HIDDEN, torch.device("cpu"), torch.float64)
    for value in heads.tensors().values():
        value.copy_(torch.from_numpy(draw.normal(size=tuple(value.shape)) * 0.5))
    return columns, user, target, heads


def numeric(value, weight, step=1e-6):
    """Central differences of a function of nothing by every entry of a tensor."""
    found = torch.zeros_like(weight)
    flat, out = weight.view(-1), found.view(-1)
    for place in range(len(flat)):
        kept = float(flat[place])
        ends = []
        for move in (step, -step):
            flat[place] = kept + move
            ends.append(float(value()))
        flat[place] = kept
        out[place] = (ends[0] - ends[1]) / (2 * step)
    return found


OBJECTIVES = [
    ("point", True),
    ("point", False),
    ("gaussian", True),
    ("gaussian", False),
    ("bradley_terry", True),
]


@pytest.mark.parametrize(("loss", "levels"), OBJECTIVES)
@pytest.mark.parametrize("name", ["mean", "own_mean", "spread", "own_spread"])
def test_gradients_of_heads_are_those_of_finite_differences(loss, levels, name):
    objective = lora_heads.Objective(loss, levels=levels)
    columns, user, target, heads = data()
    config = Config(loss=objective.loss)
    learned = heads.leaves([name])

    def loss(of):
        mean, log_variance = of.moments(columns, user)
        return lora_heads.total_loss(mean, log_variance, target, torch.tensor(GROUP), objective) + of.penalty(
            config, [name]
        )

    loss(learned).backward()
    expected = numeric(lambda: loss(heads), heads.tensors()[name])
    torch.testing.assert_close(learned.tensors()[name].grad, expected, rtol=1e-6, atol=1e-7)


def test_beta_nll_has_the_gradient_of_its_weights_held_fixed():
    columns, user, target, heads = data(1)
    learned = heads.leaves(["mean", "spread"])
    share = (0.5 * heads.moments(columns, user)[1]).exp()

    def fixed():
        """The same with the variances to the power beta as numbers, minimised over levels by brute force."""
        mean, log_variance = heads.moments(columns, user)
        weight, residual = share * (-log_variance).exp(), target - mean
        total = 0.5 * (share * log_variance).sum()
        groups = torch.tensor(GROUP)
        for group in groups.unique():
            w, r = weight[group == groups], residual[group == groups]
            levels = [0.0] if len(r) == 1 else np.linspace(-3, 3, 60001)
            grid = torch.as_tensor(levels, dtype=torch.float64)[:, None]
            total = (
                total + (0.5 * (w * (r - grid) ** 2).sum(1) + 0.5 * lora_heads.LEVEL_PRECISION * grid[:, 0] ** 2).min()
            )
        return total

    mean, log_variance = learned.moments(columns, user)
    value = lora_heads.total_loss(
        mean, log_variance, target, torch.tensor(GROUP), lora_heads.Objective("gaussian", beta=0.5)
    )
    assert float(value.detach()) == pytest.approx(float(fixed()), abs=1e-6)
    value.backward()
    for name in ("mean", "spread"):
        expected = numeric(fixed, heads.tensors()[name], step=1e-3)
        torch.testing.assert_close(learned.tensors()[name].grad, expected, rtol=1e-3, atol=1e-3)


def test_golden_values():
    one = torch.zeros(1, dtype=torch.float64)
    four = torch.full((1,), float(np.log(4)), dtype=torch.float64)
    group, two = torch.zeros(1, dtype=torch.long), torch.full((1,), 2.0, dtype=torch.float64)
    assert float(lora_heads.total_loss(one, four, two, group, lora_heads.Objective("gaussian"))) == pytest.approx(
        1.1931471805599454
    )
    assert float(lora_heads.total_loss(one, four, two, group, lora_heads.Objective("gaussian", 0.5))) == pytest.approx(
        2.386294361119891
    )
    assert float(lora_heads.total_loss(one, four, two, group, lora_heads.Objective("point"))) == 2.0
    # two rows of residuals 1 and 3: the level is 4 / 3, what is left is 1/18 + 25/18 + 8/9
    pair = torch.tensor([1.0, 3.0]).double()
    found = lora_heads.total_loss(
        torch.zeros(2).double(), torch.zeros(2).double(), pair, torch.zeros(2).long(), lora_heads.Objective("point")
    )
    assert float(found) == pytest.approx(7 / 3)


def test_a_level_moves_no_loss_of_pairs_and_ties_are_no_pairs():
    score = torch.tensor([0.3, -0.2, 1.0, 5.0]).double()
    target = torch.tensor([2.0, 1.0, 1.0, 3.0]).double()
    group = torch.tensor([0, 0, 0, 1])
    expected = 3 * np.mean([np.logaddexp(0, -0.5), np.logaddexp(0, 0.7)])
    assert float(lora_heads.pairwise_total(score, target, group)) == pytest.approx(expected)
    assert float(lora_heads.pairwise_total(score + torch.tensor([7.0, 7, 7, -9]), target, group)) == pytest.approx(
        expected
    )
    assert float(lora_heads.pairwise_total(score, torch.ones(4).double(), group)) == 0


def test_states_of_any_scale_make_columns_of_unit_length():
    states = rng.derive(0, "states").normal(size=(500, 40)).astype(np.float32) * np.geomspace(1e-2, 1e3, 40) + 7
    states[:, 3] = 5.0
    columns = lora_heads.Standardizer.of(states.astype(np.float32), torch.device("cpu")).columns(
        torch.from_numpy(states).float()
    )
    lengths = columns[:, :-1].square().sum(1)
    assert float(lengths.mean()) == pytest.approx(39 / 40, rel=1e-3)
    assert float(columns[:, 3].abs().max()) == 0
    assert np.all(columns[:, -1].numpy() == 1)
