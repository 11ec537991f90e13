"""Synthetic diagnoses that follow docs/diagnosis.md: consistent enough to look at, awkward where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

E = {1: 0.0, 2: 0.5642, 4: 1.0294, 8: 1.4236, 16: 1.7660, 30: 2.0428}
STRENGTH = {"hierarchical": 0.31, "pooled": 0.22, "point": 0.17, "bradley_terry": 0.15, "length": 0.03}
LAWS = {"bound": 1.43, "normal": 1.07, "reward": 1.05, "pool": 0.83}


def _curve(rho: float, n: list[int], mean: float, sigma: float, half: float) -> dict[str, Any]:
    gain = [sigma * rho * E[size] * (1 - 0.04 * E[size]) for size in n]
    share = [None if size == 1 else rho * (1 - 0.03 * E[size]) for size in n]
    return {
        "utility": [mean + value for value in gain],
        "low": [mean + value - half for value in gain],
        "high": [mean + value + half for value in gain],
        "captured": share,
        "captured_low": [None if value is None else value - 0.06 for value in share],
        "captured_high": [None if value is None else value + 0.06 for value in share],
    }


def _law(curve: dict[str, Any], mean: float, n: list[int]) -> dict[str, Any]:
    gain = [value - mean for value in curve["utility"]]
    law = {name: [factor * value for value in gain] for name, factor in LAWS.items()}
    error = {name: [None if size == 1 else factor - 1 for size in n] for name, factor in LAWS.items()}
    observed, start = gain[-1], gain[-1] * LAWS["normal"]
    parts = {"growth": -0.09, "alpha": -0.06, "sigma": 0.06, "covariance": 0.12, "leakage": 0.02}
    ledger = {name: share * observed for name, share in parts.items()}
    ledger["shape"] = observed - start - sum(ledger.values())
    return {"law": law, "law_error": error, "ledger": {"law": start, **ledger, "observed": observed, "n": n[-1]}}


def _quantities(rho: float, corrected: bool) -> dict[str, Any]:
    fixed = {"beta": 0.03, "beta_05": 0.02, "rho_plus": rho + 0.02, "rho_minus": None, "queries_used": 840}
    return {
        "alpha": 0.021, "alpha_low": 0.013, "alpha_high": 0.03, "alpha_other_scale": 0.034,
        "beta": 0.13, "beta_low": 0.11, "beta_high": 0.15, "rho_plus": rho + 0.06, "rho_minus": -0.09,
        "rho": rho, "rho_low": rho - 0.03, "rho_high": rho + 0.03, "leakage_gain": 0.004, "active_queries": 1010,
        "beta_by_chance": 0.11,
        "corrected": fixed if corrected else None,
    }  # fmt: skip


def _users(rng: np.random.Generator, rho: float, users: int) -> list[dict[str, Any]]:
    share = rng.normal(rho, 0.28, users)
    collapsed = rng.random(users) < 0.04
    headroom = rng.gamma(6.0, 0.12, users)
    return [
        {"user": f"user-{i:04d}", "queries": 1, "gain": float(share[i] * headroom[i]), "headroom": float(headroom[i]),
         "captured": None if i % 97 == 5 else float(share[i]), "kappa": float(rng.uniform(0.02, 0.9)),
         "collapsed": bool(collapsed[i])}
        for i in range(users)
    ]  # fmt: skip


def _suspects(rng: np.random.Generator, users: int, count: int) -> list[dict[str, Any]]:
    return [
        {"query": f"q{i}", "user": f"user-{int(rng.integers(users)):04d}", "size": 30,
         "correlation": -0.62 + 0.05 * i, "posterior": 0.99 - 0.06 * i, "pick": 3, "pick_utility": -1.0 + 0.11 * i,
         "best": 7, "best_utility": 1.0, "mean_utility": 0.12}
        for i in range(count)
    ]  # fmt: skip


def build_model(rng: np.random.Generator, name: str, n: list[int], users: int, *, corrected: bool) -> dict[str, Any]:
    rho = STRENGTH.get(name, float(rng.uniform(0.05, 0.3)))
    mean, sigma = 0.214, 0.78
    curve = _curve(rho, n, mean, sigma, 0.03)
    correlation = np.clip(rng.normal(rho, 0.17, 1010), -1, 1)
    counts, edges = np.histogram(correlation, np.linspace(-1, 1, 21))
    costs = ((0.005, n[-1]), (0.01, n[-1]), (0.05, n[len(n) // 2]))
    return {
        "scale": "utility" if name != "bradley_terry" else "arbitrary",
        "n": n,
        **curve,
        "gain": [value - mean for value in curve["utility"]],
        "gain_low": [value - mean + 0.01 for value in curve["low"]],
        "gain_high": [value - mean - 0.01 for value in curve["high"]],
        "interval": "two-way users x texts",
        "quantities": _quantities(rho, corrected),
        **_law(curve, mean, n),
        "best_n": [{"cost_in_utility_units": cost, "n": size} for cost, size in costs],
        "findings": [
            f"{name} captures {round(100 * curve['captured'][-1]) if curve['captured'][-1] else 0}% of the headroom.",
            "Going from 8 to 16 candidates still gains 0.05.",
            "13% of queries look hacked; with sampling noise taken out 3% do.",
        ],
        "per_user": _users(rng, rho, users),
        "correlations": {"edges": edges.tolist(), "counts": counts.tolist()},
        "suspects": _suspects(rng, users, 12),
        "notes": ["12 users without fit labels were served by pooled"],
        "rules": [
            {
                "rule": "top:2",
                "n": n,
                "utility": curve["utility"],
                "utility_low": curve["low"],
                "utility_high": curve["high"],
                "difference": [-0.01 * k for k in range(len(n))],
                "difference_low": [-0.02 * k for k in range(len(n))],
                "difference_high": [0.0] * len(n),
            }
        ],
        "calibration": _calibration() if name in ("hierarchical", "gaussian") else None,
        **_outlook(curve, n, mean, sigma, rho),
    }


def _calibration() -> dict[str, Any]:
    """A model that is too sure by a fifth, above all where it is surest."""
    predicted = [0.4 + 0.05 * k for k in range(10)]
    observed = [value * (1.3 - 0.02 * k) for k, value in enumerate(predicted)]
    ends = {"temperature": 1.44, "ence": 0.21, "nll": 1.02, "gain": 0.012, "tempered_gain": 0.034}
    estimates = {f"{key}{end}": value + shift for key, value in ends.items()
                 for end, shift in (("", 0.0), ("_low", -0.01), ("_high", 0.01))}  # fmt: skip
    return {
        "candidates": 60000, "users": 1096, "left_out": 4, "values": 3, **estimates, "ence_by_noise": 0.013,
        "nll_constant": 1.032,
        "coverage": [{"level": level, "share": level - 0.06, "low": level - 0.07, "high": level - 0.05}
                     for level in (0.5, 0.8, 0.9, 0.95)],
        "reliability": {"candidates": [6000] * 10, "predicted": predicted, "observed": observed,
                        "low": [value - 0.02 for value in observed], "high": [value + 0.02 for value in observed]},
        "pit": [0.08, *[0.84 / 18] * 18, 0.08],
        "verdict": "it is too sure: errors are 1.20 times what its std says",
    }  # fmt: skip


def _outlook(curve: dict[str, Any], n: list[int], mean: float, sigma: float, rho: float) -> dict[str, Any]:
    """What lies beyond the curve, with numbers that hang together."""
    smallest = 2 * n[-1]
    far = [round(share * smallest) for share in (1.0, 1.5, 2.0, 2.5, 3.0)]
    gain = [sigma * rho * np.sqrt(2 * np.log(size)) * 0.8 for size in far]
    steps = [
        {
            "n": size,
            "order_1": value * 1.02,
            "order_2": value,
            "order_2_low": value * 0.8,
            "order_2_high": value * 1.2,
            "order_3": value * 1.08,
            "gao": value * (1.02 + 0.03 * k),
            "gao_low": value * 0.85,
            "gao_high": value * 1.3,
            "utility": mean + value,
            "trusted": k < 3,
            "verdict": "extrapolable" if k < 3 else "not extrapolable: no",
        }
        for k, (size, value) in enumerate(zip(far, gain, strict=True))
    ]
    soft = [
        {
            "temperature_in_sd": share,
            "temperature": share * 0.4,
            "utility": curve["utility"],
            "queries_used": 128,
            "difference": [-share * 0.02 * k for k in range(len(n))],
            "difference_low": [-share * 0.03 * k for k in range(len(n))],
            "difference_high": [-share * 0.01 * k for k in range(len(n))],
        }
        for share in (0.25, 0.5, 1.0)
    ]
    return {
        "three_draw": {"draws": 3, "n": n, "sd": [0.02 / size**0.5 for size in n[:-1]] + [0.0]},
        "soft": soft,
        "extrapolation": {"smallest_pool": smallest, "farthest": 3 * smallest, "trusted_to": far[2],
                          "verdict": f"extrapolable to N = {far[2]}: the two predictions agree", "steps": steps},
        "best_fixed_n": [{"cost_per_candidate": cost, "n": size, "net": mean + 0.2, "net_low": mean + 0.1,
                          "net_high": mean + 0.3, "at_edge": size == n[-1]}
                         for cost, size in ((0.005, n[-1]), (0.01, 5), (0.02, 3), (0.05, 1))],
        "per_user_n": {"cost_per_candidate": 0.01, "users": 300, "trust": 0.4, "n": list(range(1, 20)),
                       "share": [1 / 19] * 19, "own_n": 6.2, "common_n": 7.0, "gain": 0.004, "gain_low": -0.001,
                       "gain_high": 0.009, "reason": None},
        "stopping": {"rule": "expected improvement", "cost_per_candidate": 0.01, "drawn": 6.1, "utility": mean + 0.3,
                     "net": mean + 0.24, "fixed_n": 7, "fixed_net": mean + 0.23, "advantage": 0.01,
                     "advantage_low": 0.002, "advantage_high": 0.018, "pays": True, "verdict": "Stopping early pays.",
                     "reason": None},
        "needed": [{"quantity": "captured", "half_width": 0.05, "now": 0.06, "users": 600, "more_users": 200,
                    "more_queries": 200},
                   {"quantity": "alpha", "half_width": 0.05, "now": 0.01, "users": 40, "more_users": 0,
                    "more_queries": 0},
                   {"quantity": "beta", "half_width": 0.05, "now": None, "users": None, "more_users": None,
                    "more_queries": None}],
    }  # fmt: skip


def build(
    models: tuple[str, ...] = ("hierarchical", "pooled", "length"),
    *,
    users: int = 400,
    n: tuple[int, ...] = (1, 2, 4, 8, 16),
    corrected: bool = True,
    folds: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    grid = list(n)
    oracle = [0.214 + 0.78 * E[size] * 0.93 for size in grid]
    last = grid[-1]
    diagnosis = {
        "signature": {"version": "0.1.0", "data": "5f0c" * 16, "policy": "human", "reward": "hierarchical",
                      "rule": "argmax", "seed": seed, "averaging": "user", "level": 0.95},
        "name": "bowling-green",
        "pools_used": {"queries": min(users, 300), "of": users, "users": min(users, 300)},
        "queries": users, "users": users, "candidates": 55 * users,
        "dropped": {"too_few_candidates": 17, "not_finite": 0},
        "pool_mean": 0.214,
        "oracle": {"n": grid, "utility": oracle, "low": [v - 0.02 for v in oracle], "high": [v + 0.02 for v in oracle]},
        "models": {name: build_model(rng, name, grid, users, corrected=corrected) for name in models},
        "comparisons": [
            {"model": models[0], "against": other, "n": size, "captured_difference": 0.05 + 0.1 * i,
             "low": 0.01 - 0.02 * (i == 0), "high": 0.09 + 0.1 * i}
            for i, other in enumerate(models[1:]) for size in grid[1:]
        ],
        "headline": f"With {models[0]}, answering with the best of {last} captures 29% of what a perfect picker would "
        "gain: worth doing, and most of it could have been predicted.",
    }  # fmt: skip
    if folds:
        diagnosis["folds"] = [
            build(models, users=users, n=n, corrected=corrected, seed=seed + fold + 1) for fold in range(folds)
        ]
    return diagnosis


def texts_for() -> tuple[dict[tuple[str, int], str], dict[str, str]]:
    short = "City council should publish its budget before the vote, not after it."
    long = "Traffic on Scottsville Road has doubled since the new school opened, and nobody asked us. " * 14
    awkward = {
        ("q1", 3): "<script>alert('x')</script> & <b>bold</b> \"quoted\" {{ 7 * 7 }}",
        ("q1", 7): "الحافلات الليلية ضرورية للعمال (bus 42) وليست رفاهية.",
        ("q2", 3): "Straßenbeleuchtung 🌙 — 夜の照明は必要です。" + "x" * 300,
        ("q3", 7): "a\x00b\ud800c\r\nsecond line\n\n   indented",
    }
    texts = {(f"q{i}", 3): long if i == 0 else short for i in range(5)}
    texts |= {(f"q{i}", 7): short if i == 0 else "More night buses for people who work late." for i in range(5)}
    inputs = {"q0": "What should change in Bowling Green?", "q1": "<img src=x onerror=alert(1)>"}
    return {**texts, **awkward}, inputs


Build = Callable[..., dict[str, Any]]
Texts = tuple[dict[tuple[str, int], str], dict[str, str]]


@pytest.fixture
def make() -> Build:
    """The generator: make(models, users=, n=, corrected=, folds=, seed=)."""
    return build


@pytest.fixture
def diagnosis() -> dict[str, Any]:
    return build()


@pytest.fixture
def texts() -> Texts:
    """Texts and inputs of the suspects q0 to q4: long, hostile, right-to-left, damaged."""
    return texts_for()


@pytest.fixture
def bare() -> dict[str, Any]:
    """One user, one model, and null or an empty list wherever the format allows it."""
    diagnosis = build(("scores",), users=1, n=(1, 2, 4), corrected=False)
    model = diagnosis["models"]["scores"]
    for key in ("low", "high", "gain", "gain_low", "gain_high", "captured_low", "captured_high"):
        model[key] = []
    for key in ("findings", "notes", "suspects", "best_n", "per_user", "soft", "rules", "best_fixed_n", "needed"):
        model[key] = []
    for key in ("three_draw", "extrapolation", "per_user_n", "stopping", "calibration"):
        model[key] = None
    model.update(law={}, law_error={}, ledger=None, correlations={"edges": [], "counts": []})
    model["quantities"] = {key: None for key in model["quantities"]}
    diagnosis.update(comparisons=[], headline="", signature={}, pool_mean=None, pools_used=None)
    return diagnosis
