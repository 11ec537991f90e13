"""Name the means over queries that numbers of a diagnosis are ratios of, one record type for each set of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, TypeVar

Mean = TypeVar("Mean", bound=tuple[object, ...])
"""A record that names a mean, such as :class:`CurveMean`."""

LinearForm: TypeAlias = Mapping[Mean, float]
"""A linear form in the means of :class:`~bestfor.diagnostics.intervals.influence.Influences`: mean -> coefficient."""


class CurveMean(NamedTuple):
    """Name a mean that curves are made of.

    Attributes:
        of: ``"one"`` the weights themselves, ``"pool"`` a random candidate's utility, ``"oracle"`` that of the best of
            N by the utility itself, ``"pick"`` that of the one that a model picks among N.
        n: candidates drawn, where that matters.
        model: of a pick, whose rewards.
        rule: of a pick, by which other rule; empty for the highest reward.
    """

    of: Literal["one", "pool", "oracle", "pick"]
    n: int = 0
    model: str = ""
    rule: str = ""


ONE = CurveMean("one")
POOL = CurveMean("pool")


class QuantityMean(NamedTuple):
    """Name a mean behind alpha, beta or rho.

    Attributes:
        of: over users ``"judged"``, ``"collapsed"``, and by the other scale's rule ``"other_judged"`` and ``"other"``;
            over active queries ``"active"``, ``"negative"`` and the correlations by sign, ``"plus"`` and ``"minus"``.
        model: whose.
    """

    of: Literal["judged", "collapsed", "other", "other_judged", "active", "negative", "plus", "minus"]
    model: str


Ratio: TypeAlias = tuple[LinearForm[QuantityMean], LinearForm[QuantityMean]]
"""A quantity's numerator and denominator."""


def collapsed_share(model: str) -> Ratio:
    """Express alpha, the share of collapsed users."""
    return {QuantityMean("collapsed", model): 1.0}, {QuantityMean("judged", model): 1.0}


def negative_ratio(model: str) -> Ratio:
    """Express beta, the share of active queries with a negative correlation."""
    return {QuantityMean("negative", model): 1.0}, {QuantityMean("active", model): 1.0}


def mean_correlation(model: str) -> Ratio:
    """Express rho, the mean correlation of active queries."""
    plus, minus = QuantityMean("plus", model), QuantityMean("minus", model)
    return {plus: 1.0, minus: 1.0}, {QuantityMean("active", model): 1.0}


def mean_positive(model: str) -> Ratio:
    """Express rho_plus, the mean of the correlations that are not negative."""
    active, negative = QuantityMean("active", model), QuantityMean("negative", model)
    return {QuantityMean("plus", model): 1.0}, {active: 1.0, negative: -1.0}


def mean_negative(model: str) -> Ratio:
    """Express rho_minus, the mean of the negative correlations."""
    return {QuantityMean("minus", model): 1.0}, {QuantityMean("negative", model): 1.0}


SampleKind: TypeAlias = Literal[
    "one", "fixed", "order_1", "order_2", "order_3", "gao", "drawn", "stopped", "still", "judged", "own", "common",
    "own_n", "common_n", "net", "utility",
]  # fmt: skip


class SampleMean(NamedTuple):
    """Name a mean over a sample of pools.

    Attributes:
        of: ``"one"`` the weights; ``"fixed"`` the utility at a fixed N; the coefficients of the ways to predict larger
            pools; what a stopping rule drew and earned (``"drawn"``, ``"stopped"``, ``"utility"``, ``"net"``) beside
            the best fixed N (``"still"``); and one N a user (``"judged"``, ``"own"``, ``"common"``, ``"own_n"``,
            ``"common_n"``).
        place: N of a fixed one, else which coefficient.
    """

    of: SampleKind
    place: int = 0


class SoftMean(NamedTuple):
    """Name the mean difference of soft Best-of-N from the highest reward.

    Attributes:
        temperature: which of the temperatures; -1 for the weights themselves.
        n: candidates drawn.
    """

    temperature: int
    n: int


ALL_SAMPLED = SampleMean("one")
ALL_SOFT = SoftMean(-1, 0)
