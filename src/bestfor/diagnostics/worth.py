"""Judge how many candidates pay at a price, from the interval of the gain less what it costs."""

from __future__ import annotations

from bestfor.diagnostics.intervals.clustered import Panel
from bestfor.diagnostics.intervals.means import ONE, POOL, CurveMean, LinearForm
from bestfor.diagnostics.price import Price
from bestfor.diagnostics.result import BestN, PriceVerdict
from bestfor.types import Estimate

_OPEN: tuple[PriceVerdict, ...] = ("undecided", "not shown")
_WHOLE: LinearForm[CurveMean] = {ONE: 1.0}


def best_n(curves: Panel[CurveMean], model: str, price: Price) -> BestN:
    """Find the N with the highest gain less its price among 1, the powers of two and the largest N, and judge it.

    A step that is no doubling, such as from 16 to 24, costs its part of one (log2(24/16) = .58 of the price).

    Args:
        curves: with the model's picks at every power of two up to the largest N.
        model: its name.
        price: of a doubling or of a candidate.

    Returns:
        The N with its verdict; where it is 1, that on all larger ones: open where any of them is.
    """
    grid = sorted(one.n for one in curves.folds[0].columns if one == CurveMean("pick", one.n, model))
    grid = [n for n in grid if n & (n - 1) == 0 or n == grid[-1]]
    cost = price.form(grid[-1])
    net = {n: curves.value(_net(model, price, cost, (1, n)), _WHOLE) for n in grid}
    n = max(grid, key=lambda one: (net[one], -one))
    verdict: PriceVerdict = "not measured"
    further: PriceVerdict = "not measured"
    if n > 1:
        verdict = _judge(curves, model, price, (1, n))
        if n < grid[-1]:
            further = _judge(curves, model, price, (n, grid[grid.index(n) + 1]))
    elif len(grid) > 1:
        said = [_judge(curves, model, price, (1, one)) for one in grid[1:]]
        open_ones: list[PriceVerdict] = [one for one in _OPEN if one in said]
        verdict = further = open_ones[0] if open_ones else "does not pay"
    gain = curves.interval(_step(model, 1, n), _WHOLE) if n > 1 else Estimate(0.0, None, None, curves.level)
    return BestN(
        price=price.amount,
        unit=price.unit,
        n=n,
        verdict=verdict,
        per=price.per,
        cost_in_utility_units=curves.value(cost, _WHOLE),
        further=further,
        gain=gain,
        headroom=curves.value({CurveMean("oracle", n): 1.0, POOL: -1.0}, _WHOLE) if n > 1 else 0.0,
        worth=price.worth,
    )


def _judge(curves: Panel[CurveMean], model: str, price: Price, step: tuple[int, int]) -> PriceVerdict:
    """Judge a step from one N to a larger one: whether its gain, less its price, is above or below 0 for sure."""
    net = curves.interval(_net(model, price, price.form(_largest(curves)), step), _WHOLE)
    gain = curves.interval(_step(model, *step), _WHOLE)
    if net.low is None or net.high is None or gain.low is None:
        return "undecided"
    if net.low > 0:
        return "pays"
    if net.high < 0:
        return "does not pay"
    return "undecided" if gain.low > 0 else "not shown"


def _largest(curves: Panel[CurveMean]) -> int:
    return max(one.n for one in curves.folds[0].columns if one.of == "oracle")


def _net(model: str, price: Price, cost: LinearForm[CurveMean], step: tuple[int, int]) -> dict[CurveMean, float]:
    """Express the gain of a step less its price."""
    times = price.times(step[1]) - price.times(step[0])
    form = {mean: -times * one for mean, one in cost.items()}
    for mean, one in _step(model, *step).items():
        form[mean] = form.get(mean, 0.0) + one
    return form


def _step(model: str, before: int, after: int) -> dict[CurveMean, float]:
    """Express what a model earns at one N more than at another; N = 1 is a random candidate."""
    if before == after:
        return {}
    start = POOL if before == 1 else CurveMean("pick", before, model)
    return {CurveMean("pick", after, model): 1.0, start: -1.0}
