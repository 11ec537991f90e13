"""Hold the values of a diagnosis: frozen dataclasses, NumPy inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from bestfor.diagnostics.beyond.measure import SampleMeasurements
from bestfor.diagnostics.beyond.outlook import Outlook, PoolsUsed
from bestfor.diagnostics.calibration import Calibration
from bestfor.diagnostics.ceiling import Ceiling, UtilitySpread
from bestfor.diagnostics.intervals.clustered import Resampling
from bestfor.diagnostics.intervals.influence import Influences
from bestfor.diagnostics.intervals.laws import LawEnds, LawParts
from bestfor.diagnostics.intervals.means import CurveMean, QuantityMean
from bestfor.diagnostics.price import DOUBLING_PRICES, Price
from bestfor.diagnostics.quantities.laws import Ledger
from bestfor.diagnostics.quantities.mixture import Corrected
from bestfor.diagnostics.table.pools import Dropped
from bestfor.moved import renamed
from bestfor.types import Averaging, BoolArray, Estimate, FloatArray, IntArray, Scale

__getattr__ = renamed(__name__, {"Evidence": "FoldInfluences"})


UNKNOWN = Estimate(math.nan)


@dataclass(frozen=True)
class Curve:
    """A number at every N, with its interval; NaN where it cannot be had. All arrays have shape (K,)."""

    n: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray

    def at(self, n: int) -> Estimate:
        """Look up the value at one N (which must be in ``n``) with its interval, None where there is none."""
        k = self.n.tolist().index(n)
        low, high = float(self.low[k]), float(self.high[k])
        return Estimate(float(self.value[k]), None if math.isnan(low) else low, None if math.isnan(high) else high)


@dataclass(frozen=True)
class Quantities:
    """The four quantities (Zhang & He 2026) and what belongs beside them.

    Attributes:
        alpha: share of users whose predictions are near-constant, by the rule of the rewards' own scale.
        alpha_other_scale: the same by the other scale's rule.
        beta: share of active queries (weighted like the curve) with a negative correlation, as observed.
        rho_plus: mean of the correlations that are not negative, NaN where there are none.
        rho_minus: mean of the negative ones, NaN where there are none.
        rho: mean correlation over active queries; identically (1 - beta) rho_plus - beta |rho_minus|.
        leakage_gain: what queries outside the active ones add to the gain at the largest N.
        active_queries: queries of users not collapsed where neither rewards nor utilities are constant.
        corrected: the quantities freed from sampling noise, None where pools are too small or too few.
        beta_by_chance: the share of negative correlations that noise alone would show if every query had the mean one.
        reasons: name of a quantity that cannot be had -> why.
        rho_plus_ends, rho_minus_ends: lower and upper ends of their intervals, NaN where there are none.
    """

    alpha: Estimate
    alpha_other_scale: float
    beta: Estimate
    rho_plus: float
    rho_minus: float
    rho: Estimate
    leakage_gain: float
    active_queries: int
    corrected: Corrected | None
    beta_by_chance: float = math.nan
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    rho_plus_ends: tuple[float, float] = (math.nan, math.nan)
    rho_minus_ends: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class PerUser:
    """Each user at the largest N; arrays of shape (U,).

    Attributes:
        user: ids.
        queries: how many each has.
        gain: mean gain over the user's queries.
        headroom: mean oracle gain over the same.
        captured: their ratio, NaN where there is no headroom.
        kappa: the spread that decides on collapse, over what it is compared with.
        collapsed: whether the rewards are near-constant (over folds: in at least half of them).
    """

    user: tuple[str, ...]
    queries: IntArray
    gain: FloatArray
    headroom: FloatArray
    captured: FloatArray
    kappa: FloatArray
    collapsed: BoolArray


@dataclass(frozen=True)
class Suspect:
    """A query whose pick is worse than a random candidate, with the posterior chance that its true rho is negative.

    ``pick`` and ``best`` are candidates, None where a diagnosis that was read does not say which.
    """

    query: str
    user: str
    size: int
    correlation: float
    posterior: float
    pick: int | None
    pick_utility: float
    best: int | None
    best_utility: float
    mean_utility: float


PriceVerdict = Literal["pays", "not shown", "undecided", "does not pay", "not measured", ""]


@dataclass(frozen=True)
class BestN:
    """The N with the highest gain less its price, and whether that is sure.

    Attributes:
        price: amount, in the unit.
        unit: ``"of the headroom"``, ``"of the sd"``, ``"utility"``, or a currency.
        n: candidates.
        verdict: ``"pays"`` and ``"does not pay"`` where the interval of the gain less its price says so;
            ``"undecided"`` where a gain is shown and whether it is worth the price is open, or users are too few;
            ``"not shown"`` where no gain can be told from chance. On larger N where n is 1; empty in old files.
        per: what the price is paid for: a ``"doubling"`` or a ``"candidate"``.
        cost_in_utility_units: the price in utility.
        further: the verdict on the next step after n; ``"not measured"`` where n is the largest.
        gain: over a random candidate at n.
        headroom: what a perfect pick gains at n.
        worth: of a unit of utility in the currency; 1 otherwise.
    """

    price: float
    unit: str
    n: int
    verdict: PriceVerdict = ""
    per: str = "doubling"
    cost_in_utility_units: float = math.nan
    further: PriceVerdict = ""
    gain: Estimate = field(default_factory=lambda: Estimate(math.nan))
    headroom: float = math.nan
    worth: float = 1.0

    @property
    def stated(self) -> Price:
        """The price as it was stated."""
        return Price(self.price, self.unit, "candidate" if self.per == "candidate" else "doubling", self.worth)


@dataclass(frozen=True)
class Needed:
    """Users needed to know captured at the largest N to within a half-width; None where more users are not enough."""

    half_width: float
    users: int | None


@dataclass(frozen=True)
class Comparison:
    """Paired differences of one model and another on the same queries.

    Attributes:
        model, against: their names.
        n: candidates drawn.
        difference: in captured headroom at that N.
        alpha, beta, rho, rho_plus, rho_minus: in these quantities; they do not depend on N.
        beta_05: in the corrected share of clearly negative correlations.
    """

    model: str
    against: str
    n: int
    difference: Estimate
    alpha: Estimate = UNKNOWN
    beta: Estimate = UNKNOWN
    rho: Estimate = UNKNOWN
    rho_plus: Estimate = UNKNOWN
    rho_minus: Estimate = UNKNOWN
    beta_05: Estimate = UNKNOWN


@dataclass(frozen=True)
class OtherRule:
    """Curve of another rule than the highest reward, with the same rewards.

    Attributes:
        rule: its name.
        utility: expected, exact.
        difference: utility minus that of the highest reward at the same N, paired.
    """

    rule: str
    utility: Curve
    difference: Curve


@dataclass(frozen=True)
class ModelDiagnosis:
    """Diagnosis of one reward model; arrays over N have shape (K,).

    Attributes:
        scale: of its rewards.
        utility: Best-of-N's expected utility.
        gain: the same over the pool mean.
        captured: gain over headroom, NaN at N = 1.
        peak: the N with the highest utility.
        drop: utility at the largest N minus utility at the peak, paired; without an interval where it was read from
            JSON, which does not hold it.
        interval: what captured's interval counts as random.
        quantities: alpha, beta, rho.
        law: a law's name -> gains it predicts.
        law_error: a law's name -> (law - observed) / observed.
        law_ends: intervals of laws, of their errors and of the pairwise accuracy; None where they are not known.
        pair_accuracy: share of pairs of a query's candidates that the reward orders as the utility, equal rewards half,
            macro by user.
        ledger: from the normal law to the observed gain at the largest N.
        best_n: for several prices, the one that is spoken of first.
        users_needed: for several half-widths of captured's interval.
        findings: plain sentences: what was seen, why, what to do.
        per_user: each user at the largest N.
        edges: shape (21,), bins of correlations.
        counts: shape (20,), active queries in them.
        suspects: at most 12, the likeliest first.
        notes: what the maker of the rewards has to say.
        outlook: other rules, budgets and pool sizes; None where no sample of pools was at hand.
        rules: what other rules earn, where any were asked for.
        calibration: of the predicted standard deviations; None without any, or where rewards are of arbitrary scale.
        baseline: whether it learns nothing and stands for comparison only.
        captured_attainable: gain over what can be gained of noisy utilities; None where nothing is known of the noise.
    """

    scale: Scale
    utility: Curve
    gain: Curve
    captured: Curve
    peak: int
    drop: Estimate
    interval: str
    quantities: Quantities
    law: dict[str, FloatArray]
    law_error: dict[str, FloatArray]
    ledger: Ledger
    best_n: tuple[BestN, ...]
    users_needed: tuple[Needed, ...]
    findings: tuple[str, ...]
    per_user: PerUser
    edges: FloatArray
    counts: IntArray
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...] = ()
    outlook: Outlook | None = None
    calibration: Calibration | None = None
    rules: tuple[OtherRule, ...] = ()
    baseline: bool = False
    law_ends: LawEnds | None = None
    captured_attainable: Curve | None = None
    pair_accuracy: Estimate = UNKNOWN

    @property
    def rank(self) -> float:
        """Captured share at the largest N, or the gain where there is no headroom: the model with the most is best."""
        for curve in (self.captured, self.gain):
            if len(curve.value) and math.isfinite(curve.value[-1]):
                return float(curve.value[-1])
        return -math.inf


@dataclass(frozen=True)
class FoldInfluences:
    """Influences on one data set's curves, quantities and sample, from which intervals are computed.

    Attributes:
        curves: of utilities less the offset.
        quantities: behind alpha, beta and rho.
        beyond: measurements on a sample of pools, of utilities less the offset; None without any.
        offset: what was subtracted from every utility so that sums keep their digits; mostly 0.
        distinct: candidates of all queries that are no copies of another one.
        spread: what is known of the utilities themselves.
        laws: name of a model -> sums by user that its laws follow from.
        resampled: name of a model -> its shares of clearly negative correlations when users are drawn again.
    """

    curves: Influences[CurveMean]
    quantities: Influences[QuantityMean]
    beyond: SampleMeasurements | None = None
    offset: float = 0.0
    distinct: int = 0
    spread: UtilitySpread | None = None
    laws: Mapping[str, LawParts] = field(default_factory=dict[str, LawParts])
    resampled: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray])


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of a diagnosis: its data, and how means and intervals are taken.

    Attributes:
        name: of the run.
        signature: what the numbers were made from.
        averaging: whether users or queries weigh the same.
        level: nominal coverage of every interval.
        queries, users, candidates: how many were used.
        dropped: what was left out.
        resampling: of bootstrap intervals; None where they are t intervals.
        rules: other rules whose curves stand beside that of the highest reward, by name.
        prices: at which the best N is found, the one that is spoken of first.
    """

    name: str
    signature: Mapping[str, Any]
    averaging: Averaging
    level: float
    queries: int
    users: int
    candidates: int
    dropped: Dropped
    resampling: Resampling | None = None
    rules: tuple[str, ...] = ()
    prices: tuple[Price, ...] = DOUBLING_PRICES


@dataclass(frozen=True, kw_only=True)
class DiagnosisResult(Header):
    """The values of a diagnosis: whether Best-of-N pays, for which model, for whom, and why.

    :class:`bestfor.diagnostics.public.Diagnosis` is this with its sentences, its JSON and its report.

    Attributes:
        pool_mean: mean utility of a random candidate; without an interval where it was read from JSON.
        oracle: Best-of-N by the utility itself.
        models: name -> its diagnosis.
        comparisons: every pair of models at every N above 1, the better one first; the best one's pairs lead.
        headline: one sentence.
        folds: where this is a mean, the diagnoses that it is the mean of.
        evidence: one per fold; none where it was read from JSON.
        ceiling: what could be captured at best; None where nothing is known of the utilities' noise.
        pools_used: on how many queries the models' outlooks rest; None where there are none.
    """

    pool_mean: Estimate
    oracle: Curve
    models: dict[str, ModelDiagnosis]
    comparisons: tuple[Comparison, ...]
    headline: str
    folds: tuple[DiagnosisResult, ...] = ()
    evidence: tuple[FoldInfluences, ...] = field(default=(), repr=False)
    pools_used: PoolsUsed | None = None
    ceiling: Ceiling | None = None

    @property
    def n(self) -> IntArray:
        """Candidates drawn, shape (K,)."""
        return self.oracle.n

    @property
    def best(self) -> str | None:
        """Name of the model that captures most at the largest N (gains most where there is no headroom), if any."""
        return max(self.models, key=lambda name: self.models[name].rank, default=None)

    def with_notes(self, notes: Mapping[str, tuple[str, ...]]) -> Self:
        """Add notes on some models, by name."""
        models = {
            name: replace(model, notes=(*model.notes, *notes.get(name, ()))) for name, model in self.models.items()
        }
        return replace(self, models=models)

    def with_calibration(self, found: Mapping[str, Calibration | None]) -> Self:
        """Set the calibration of some models, by name."""
        models = {
            name: replace(model, calibration=found.get(name, model.calibration)) for name, model in self.models.items()
        }
        return replace(self, models=models)
