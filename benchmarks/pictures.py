"""Draw the pictures of docs/theory.md and print their numbers: python benchmarks/pictures.py [NAME ...] [--out FOLDER].

Everything is simulated with a seed; the same versions of NumPy and matplotlib give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from bestfor.diagnostics import ModelDiagnosis, Reward, Settings, best_of_n, diagnose_arrays, subset_variance
from bestfor.diagnostics.quantities.mixture import correct
from bestfor.report.charts.plots import BAD, COLORS, GOOD, INK, LAW_STYLES, QUIET, frame, samples_axis
from bestfor.rng import derive
from bestfor.types import FloatArray, IntArray

Numbers = dict[str, float]
USERS, QUERIES, SIZE = 200, 4, 30
POOLS = USERS * QUERIES
N: IntArray = np.array([1, 2, 4, 8, 16, 30])
BLUE = COLORS[0]


def draws(name: str, size: int = SIZE, pools: int = POOLS) -> tuple[FloatArray, FloatArray]:
    """Two independent standard normals for every candidate, each of shape (pools, size)."""
    both = derive(0, "pictures", name).standard_normal((2, pools, size))
    return both[0], both[1]


def mixed(rho: float | FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """A standard normal with this correlation to the first."""
    return rho * first + np.sqrt(1 - np.square(rho)) * second


def diagnose(reward: FloatArray, utility: FloatArray) -> tuple[ModelDiagnosis, FloatArray]:
    """The diagnosis of one model on the utility's scale, every user with four queries, and the oracle's gain."""
    pool = np.repeat(np.arange(len(reward)), reward.shape[1])
    rewards = {"model": Reward(reward.ravel(), scale="utility")}
    found = diagnose_arrays(pool // QUERIES, pool, utility.ravel(), rewards, Settings(n=N))
    return found.models["model"], found.oracle.value - found.pool_mean.value


def collapse() -> tuple[Figure, Numbers]:
    """Two users of five get almost the same reward for every candidate."""
    utility, noise = draws("collapse")
    reward = mixed(0.5, utility, noise)
    asleep = np.arange(POOLS) // QUERIES < 0.4 * USERS
    healthy, oracle = diagnose(reward, utility)
    level = derive(0, "pictures", "levels").standard_normal(POOLS)[:, None]
    flat = np.where(asleep[:, None], level + 0.02 * noise, reward)
    model, _ = diagnose(flat, utility)
    figure, (left, right) = panels()
    spread = np.sort(model.per_user.kappa)
    left.plot(np.arange(1, USERS + 1), spread, ".", color=BLUE, markersize=3)
    left.axhline(0.05, color=BAD, linewidth=1)
    left.text(USERS, 0.062, "collapsed below 0.05", color=BAD, fontsize=8, ha="right")
    left.set_yscale("log")
    labels(left, "users, sorted", "spread of rewards / spread of utilities", "Two users of five get flat rewards")
    gains(right, {"oracle": oracle, "nobody collapsed": healthy.gain.value, "two of five collapsed": model.gain.value})
    finish(right, "What is left of the curve", model, "normal")
    return figure, {
        "alpha": model.quantities.alpha.value,
        "gain at N = 30": at(model, 30),
        "nobody collapsed": at(healthy, 30),
        "law": float(model.law["normal"][-1]),
        "leakage": model.quantities.leakage_gain,
    }


def hacking() -> tuple[Figure, Numbers]:
    """Three queries of ten correlate negatively."""
    utility, noise = draws("hacking")
    hacked = derive(0, "pictures", "hacked").random(POOLS) < 0.3
    reward = mixed(np.where(hacked, -0.4, 0.45)[:, None], utility, noise)
    model, _ = diagnose(reward, utility)
    curve = best_of_n(reward, utility, np.full(POOLS, SIZE), N) - utility.mean(axis=1, keepdims=True)
    figure, (left, right) = panels()
    left.bar(model.edges[:-1], model.counts, np.diff(model.edges), align="edge", color=[BAD] * 10 + [BLUE] * 10)
    labels(left, "correlation within a query", "queries", "Some correlations are negative")
    gains(right, {"all queries": model.gain.value, "the good ones": curve[~hacked].mean(axis=0)})
    right.plot(N, curve[hacked].mean(axis=0), color=BAD, marker="o", markersize=3, label="the hacked ones")
    finish(right, "There, more candidates make it worse", model, "normal")
    corrected = model.quantities.corrected
    assert corrected is not None
    return figure, {
        "truly negative": float(hacked.mean()),
        "beta": model.quantities.beta.value,
        "corrected beta": corrected.beta,
        "gain at N = 30": at(model, 30),
        "good queries": float(curve[~hacked, -1].mean()),
        "hacked queries": float(curve[hacked, -1].mean()),
        "law": float(model.law["normal"][-1]),
    }


def cliff() -> tuple[Figure, Numbers]:
    """The correlation is positive, but the highest rewards are bad."""
    reward, noise = draws("cliff")
    utility = 0.6 * reward - 2.6 * (reward > 1.7) + 0.8 * noise
    model, _ = diagnose(reward, utility)
    figure, (left, right) = panels()
    left.plot(reward[:12].ravel(), utility[:12].ravel(), ".", color=QUIET, markersize=2.5, alpha=0.6)
    edges = np.arange(-2.6, 3.0, 0.2)
    middle = (edges[1:] + edges[:-1]) / 2
    mean = [utility[(reward >= low) & (reward < low + 0.2)].mean() for low in edges[:-1]]
    left.plot(middle, mean, color=BAD, linewidth=2, label="mean utility")
    left.legend(fontsize=8, frameon=False, loc="upper left")
    labels(left, "reward", "utility", "A cliff where rewards are highest")
    gains(right, {"exact": model.gain.value})
    right.axhline(0, color=QUIET, linewidth=0.7)
    finish(right, "The law rises, the curve falls", model, "normal", "reward")
    return figure, {
        "rho": model.quantities.rho.value,
        "peak at N": float(model.peak),
        "gain there": at(model, model.peak),
        "gain at N = 30": at(model, 30),
        "law": float(model.law["normal"][-1]),
        "shape": model.ledger.shape,
    }


def saturation() -> tuple[Figure, Numbers]:
    """Utilities of three values: the oracle is at its best after a few draws, the reward model is not."""
    taste, noise = draws("saturation")
    utility = np.digitize(taste, [-0.4, 0.4]) - 1.0
    model, oracle = diagnose(mixed(0.45, taste, noise), utility)
    figure, (left, right) = panels()
    values, counts = np.unique(utility, return_counts=True)
    left.bar(values, counts / counts.sum(), 0.5, color=BLUE)
    left.set_xticks(values)
    labels(left, "utility (a vote)", "share of candidates", "Three values only")
    gains(right, {"oracle": oracle, "exact": model.gain.value})
    finish(right, "The 'pool' law saturates with the oracle", model, "normal", "reward", "pool")
    return figure, {
        "oracle's gain at N = 8": float(oracle[3]),
        "at N = 30": float(oracle[-1]),
        "exact at N = 30": at(model, 30),
        **{f"{law} law": float(model.law[law][-1]) for law in ("normal", "reward", "pool")},
    }


def noise() -> tuple[Figure, Numbers]:
    """Every query has the true correlation 0.15; small pools make many look negative."""
    sizes, pools, rho = np.array([6, 10, 16, 20, 30, 64, 128]), 2000, 0.15
    seen: dict[int, FloatArray] = {}
    for size in sizes.tolist():
        first, second = draws(f"noise {size}", size, pools)
        seen[size] = correlations(first, mixed(rho, first, second))
    naive = np.array([(r < 0).mean() for r in seen.values()])
    large = [size for size in seen if size >= 20]
    fits = {size: correct(seen[size], np.full(pools, size), np.full(pools, 1 / pools)) for size in large}
    corrected = {size: fit[0].beta for size, fit in fits.items() if fit is not None}
    figure, (left, right) = panels()
    bins = np.linspace(-1, 1, 41)
    for size, color in ((10, BAD), (64, BLUE)):
        left.hist(seen[size], bins, histtype="step", color=color, label=f"M = {size}", linewidth=1.3)
    left.axvline(rho, color=INK, linestyle="--", linewidth=1, label="the truth, all queries")
    left.legend(fontsize=8, frameon=False, loc="upper left")
    labels(left, "correlation within a query", f"queries of {pools}", "One truth, many correlations")
    grid = np.arange(5, 140)
    right.plot(grid, student_share(rho, grid), color=INK, linestyle="--", linewidth=1, label="formula")
    right.plot(sizes, naive, "o", color=BAD, markersize=4, label="naive beta")
    right.plot(list(corrected), list(corrected.values()), "s", color=GOOD, markersize=4, label="corrected beta")
    right.set_xscale("log", base=2)
    right.set_xticks([8, 16, 32, 64, 128], ["8", "16", "32", "64", "128"])
    right.minorticks_off()
    right.legend(fontsize=8, frameon=False)
    labels(right, "M, candidates per query", "share counted as hacked", "Noise that looks like hacking")
    return figure, {f"naive, M = {size}": float(naive[k]) for k, size in enumerate(sizes) if size in (10, 30, 64)} | {
        "formula, M = 30": float(student_share(rho, np.array([30]))[0]),
        **{f"corrected, M = {size}": beta for size, beta in corrected.items() if size in (30, 64)},
    }


def protocol() -> tuple[Figure, Numbers]:
    """Three random subsets per N and query, against the expectation over all of them."""
    queries, grid = 500, np.arange(1, 31)
    first, second = draws("protocol", SIZE, 4000)
    utility = mixed(0.3, first, second)
    size = np.full(len(first), SIZE)
    exact, extra = best_of_n(first, utility, size, grid), subset_variance(first, utility, size, grid) / 3
    figure, (left, right) = panels()
    for repeat in range(4):
        drawn = three_draws(first[:queries], utility[:queries], grid, repeat)
        left.plot(grid, drawn, color=QUIET, linewidth=0.9, label="3 draws each, four times" if repeat == 0 else None)
    left.plot(grid, exact[:queries].mean(axis=0), color=BLUE, linewidth=2, label="exact")
    left.legend(fontsize=8, frameon=False, loc="upper left")
    labels(left, "N, candidates drawn", f"mean utility of {queries} queries", "Same pools, same rewards")
    ratio = 1 + extra.mean(axis=0) / exact.var(axis=0, ddof=1)
    right.plot(grid, ratio, color=BAD, linewidth=1.8)
    right.axhline(1, color=BLUE, linewidth=1.2)
    right.text(30, 1.15, "exact", color=BLUE, fontsize=8, ha="right")
    labels(right, "N, candidates drawn", "variance / variance of the exact curve", "What three draws add")
    # Curves of two neighbouring N are drawn independently: a drop shows where their noise beats the true step.
    step = exact[:, 15].mean() - exact[:, 14].mean()
    sd = np.sqrt((extra[:, 15] + extra[:, 14]).mean() / queries)
    return figure, {f"ratio at N = {n}": float(ratio[n - 1]) for n in (1, 4, 8, 16)} | {
        "chance of a drop from N = 15 to 16": float(stats.norm.cdf(-step / sd)),
    }


def three_draws(reward: FloatArray, utility: FloatArray, grid: IntArray, repeat: int) -> FloatArray:
    """The published protocol: for every N and query the mean over three random subsets; shape (K,)."""
    rng = derive(0, "pictures", "subsets", repeat)
    curve = np.zeros(len(grid))
    for k, n in enumerate(grid.tolist()):
        for _ in range(3):
            subset = np.argsort(rng.random(reward.shape), axis=1)[:, :n]
            best = np.take_along_axis(reward, subset, axis=1).argmax(axis=1)
            pick = np.take_along_axis(subset, best[:, None], axis=1)
            curve[k] += float(np.take_along_axis(utility, pick, axis=1).mean()) / 3
    return curve


def correlations(first: FloatArray, second: FloatArray) -> FloatArray:
    """Pearson's r in every row."""
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (first, second))
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def student_share(rho: float, size: IntArray) -> FloatArray:
    """P(r < 0) for M candidates at the correlation rho: T_{M-1}'s cdf at -sqrt(M - 1) rho / sqrt(1 - rho^2)."""
    return np.asarray(stats.t.cdf(-np.sqrt(size - 1) * rho / np.sqrt(1 - rho**2), size - 1))


def at(model: ModelDiagnosis, n: int) -> float:
    """The exact gain at one N."""
    return model.gain.at(n).value


def panels() -> tuple[Figure, tuple[Axes, Axes]]:
    """Two charts side by side."""
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, (figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2))


def labels(axes: Axes, x: str, y: str, title: str) -> None:
    """What is drawn, and how the axes read."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9.5, loc="left")
    frame(axes)


def gains(axes: Axes, curves: Mapping[str, FloatArray]) -> None:
    """Gains over the pool mean; the oracle in grey."""
    colors = iter(COLORS[:1] + COLORS[2:])
    for name, values in curves.items():
        color = QUIET if name == "oracle" else next(colors)
        axes.plot(N, values, color=color, marker="o", markersize=3, linewidth=1.6, label=name)


def finish(axes: Axes, title: str, model: ModelDiagnosis, *laws: str) -> None:
    """What some laws predict; axis of N, legend and title."""
    for law in laws:
        style, color = LAW_STYLES[law]
        axes.plot(N, model.law[law], linestyle=style, color=color, linewidth=1.3, label=f"'{law}' law")
    labels(axes, "", "gain over a random candidate", title)
    samples_axis(axes, N)
    axes.legend(fontsize=8, frameon=False)


PICTURES: dict[str, Callable[[], tuple[Figure, Numbers]]] = {
    "collapse": collapse,
    "hacking": hacking,
    "cliff": cliff,
    "saturation": saturation,
    "noise": noise,
    "protocol": protocol,
}


def main() -> None:
    """Draw the named pictures, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(PICTURES), help=", ".join(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    for name in words.names:
        figure, numbers = PICTURES[name]()
        with rc_context({"svg.hashsalt": "bestfor", "svg.fonttype": "none"}):
            metadata = {"Date": None} if words.format == "svg" else {"Software": None}
            figure.savefig(words.out / f"{name}.{words.format}", metadata=metadata, dpi=110)
        print(f"{name}: " + " · ".join(f"{key} {value:.3f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
