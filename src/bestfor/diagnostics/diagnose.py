"""Diagnose reward models on a table of candidates: who gains from Best-of-N, how much, and why not more.

:class:`Settings` holds everything about a diagnosis that is not data. :func:`diagnose_arrays` takes a table that is in
memory, :func:`diagnose_blocks` pools block by block; :func:`assemble` puts intervals, comparisons, the best N, findings
and a headline on the evidence of one data set or of several folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.diagnostics.attainable import with_ceiling, with_rated
from bestfor.diagnostics.beyond.measure import SampleMeasurements, measure_sample
from bestfor.diagnostics.beyond.outlook import (
    AIM,
    ExactCurve,
    Outlook,
    PrecisionNeeded,
    outlook,
    pools_used,
    precision,
    share_needed,
)
from bestfor.diagnostics.beyond.sample import sample_pools, sample_queries
from bestfor.diagnostics.blocks import Blocks, BlockTasks, measure_blocks
from bestfor.diagnostics.calibration import calibrations
from bestfor.diagnostics.cautions import copies, lowered_n, repeated_rows
from bestfor.diagnostics.compare import QuantityPanels, comparisons, headroom_at
from bestfor.diagnostics.evidence import EDGES, ModelFacts, facts_of_queries
from bestfor.diagnostics.intervals.clustered import Panel, Resampling
from bestfor.diagnostics.intervals.laws import FoldOfLaws, law_ends
from bestfor.diagnostics.intervals.means import (
    ONE,
    POOL,
    CurveMean,
    LinearForm,
    QuantityMean,
    collapsed_share,
    mean_correlation,
    mean_negative,
    mean_positive,
    negative_ratio,
)
from bestfor.diagnostics.price import DOUBLING_PRICES, Price, parse_price
from bestfor.diagnostics.public import Diagnosis
from bestfor.diagnostics.quantities.mixture import negative_by_chance
from bestfor.diagnostics.result import (
    UNKNOWN,
    Curve,
    DiagnosisResult,
    FoldInfluences,
    Header,
    ModelDiagnosis,
    Needed,
    OtherRule,
    Quantities,
)
from bestfor.diagnostics.table.copies import merge_repeats, rating_noise
from bestfor.diagnostics.table.pools import Dropped, Reward, pools_of
from bestfor.diagnostics.table.rows import Ids, SortedRows, check_any, check_sizes, decode, sort_rows
from bestfor.diagnostics.words import reasons_for, reworded
from bestfor.diagnostics.worth import best_n
from bestfor.errors import InputError
from bestfor.files import hash_parts
from bestfor.moved import renamed
from bestfor.selection import Rule, named_rule
from bestfor.types import Averaging, Estimate, FloatArray, IntArray, Interval

__getattr__ = renamed(__name__, {"Frame": "Header", "Measured": "Panels"})


HALF_WIDTHS = (0.1, 0.05, 0.02)
"""Half-widths of captured's interval for which the number of users is found."""

MOST_CANDIDATES = 1024
"""Larger pools are cut at random for what lies beyond the curves."""

EXACT = 1e-9
"""Relative errors below this are rounding: the law of pairs is exact at N = 2."""

WHOLE: LinearForm[CurveMean] = {ONE: 1.0}
MEAN: LinearForm[CurveMean] = {POOL: 1.0}


@dataclass(frozen=True)
class Settings:
    """Settings of a diagnosis.

    Attributes:
        n: values of N; None takes powers of two up to the common pool size, and that size (the largest that nine
            queries of ten reach). Queries with fewer candidates than the largest N are left out and counted.
        averaging: whether every user or every query weighs the same.
        level: nominal coverage of intervals.
        interval: how intervals are made; ``"bootstrap"`` does not count texts as random.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        rules: other rules whose curves stand beside that of the highest reward, by name (see
            :func:`~bestfor.selection.named_rule`) or as rules.
        signature: what the caller knows of the data and the models; version, averaging and level are added.
        name: of the run.
        noise: standard deviation of a rating about what the user truly thinks, in utility units, where it is known; a
            ceiling then stands beside what is captured.
        price: of a doubling or of a candidate, as :func:`~bestfor.diagnostics.price.parse_price` reads it; None tries
            several shares of the headroom.

    Raises:
        InputError: a value that cannot be.
    """

    n: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
    averaging: Averaging = "user"
    level: float = 0.95
    interval: Interval = "t"
    resamples: int = 2000
    seed: int = 0
    rules: tuple[str | Rule, ...] = ()
    signature: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""
    price: str | float | Price | None = None
    noise: float | None = None

    def __post_init__(self) -> None:
        self.stated_price()
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise InputError("noise", str(self.noise), "a standard deviation in utility units, 0 or more")
        if not 0 < self.level < 1:
            raise InputError("level", str(self.level), "a number between 0 and 1")
        if self.averaging not in ("user", "query"):
            raise InputError("averaging", repr(self.averaging), "'user' or 'query'")
        if self.interval not in ("t", "bootstrap"):
            raise InputError("interval", repr(self.interval), "'t' or 'bootstrap'")
        if self.resamples < 100:
            raise InputError("resamples", str(self.resamples), "at least 100")
        names = [rule.name for rule in self.all_rules()]
        if len(set(names)) < len(names):
            raise InputError("rules", ", ".join(names), "each of them once")

    def all_rules(self) -> tuple[Rule, ...]:
        """Resolve the other rules, each with an exact curve on a table of rewards alone."""
        rules = tuple(named_rule(one) if isinstance(one, str) else one for one in self.rules)
        for rule in rules:
            if rule.temperature is not None:
                raise InputError(f"rule {rule.name}", "a softmax choice", "rules that rank; 'soft' is always told")
            if rule.cap is not None:
                raise InputError(f"rule {rule.name}", "no texts", "rules of rewards alone")
            if rule.thompson:
                raise InputError("rule thompson", "no standard deviations", "bf.rule_curve(..., 'thompson', std=...)")
            if rule.name.startswith("lower:"):
                raise InputError(f"rule {rule.name}", "no standard deviations", "mean - deviations * std as rewards")
        return rules

    def stated_price(self) -> Price | None:
        """Read the price; None where none is stated."""
        given = self.price
        return given if given is None or isinstance(given, Price) else parse_price(str(given), "price")

    def resampling(self) -> Resampling | None:
        """Settings of bootstrap intervals; None for t intervals."""
        return Resampling(self.resamples, self.seed) if self.interval == "bootstrap" else None

    def signature_entries(self) -> dict[str, Any]:
        """Collect the signature's entries: what the caller knows, and these settings."""
        known: dict[str, Any] = {**self.signature, "averaging": self.averaging, "level": self.level}
        if self.interval == "bootstrap":
            known |= {"interval": "bootstrap", "resamples": self.resamples, "bootstrap_seed": self.seed}
        price = self.stated_price()
        if price is not None:
            known["price"] = f"{price.label} per {price.per}"
        if self.noise is not None:
            known["noise"] = self.noise
        return known | ({"rules": [rule.name for rule in self.all_rules()]} if self.rules else {})


def diagnose_arrays(
    user: Ids,
    query: Ids,
    utility: npt.ArrayLike,
    rewards: Mapping[str, Reward | npt.ArrayLike],
    settings: Settings | None = None,
    *,
    text: Ids | None = None,
    candidate: Ids | None = None,
) -> Diagnosis:
    """Diagnose reward models on candidates with known utilities, one row a candidate, in any order.

    Args:
        user: shape (rows,), ids.
        query: shape (rows,), ids.
        utility: shape (rows,), what we truly care about.
        rewards: name of a model -> :class:`Reward`, or a bare array of arbitrary scale; each of shape (rows,).
        settings: where curves are drawn, how means and intervals are taken, other rules.
        text: shape (rows,), ids of the texts; where users share texts, intervals count both as random.
        candidate: shape (rows,), integers that tell a query's candidates apart.

    Returns:
        The diagnosis.

    Raises:
        InputError: an empty table, columns that do not fit, numbers beyond 1e60 in size, or an N larger than
            every pool.
    """
    settings = settings or Settings()
    given = sort_rows(user, query, utility, rewards, text=text, candidate=candidate)
    check_any(given)
    check_sizes(given)
    rows = merge_repeats(given, renumber=candidate is None)
    drawn = choose_n(settings.n, rows.size)
    if "data" not in settings.signature:
        data = _digest(rows, np.flatnonzero(rows.size >= drawn[-1]))
        settings = replace(settings, signature={"data": data, **settings.signature})
    found = diagnose_blocks(
        lambda: (pools_of(rows, queries) for queries in rows.blocks()),
        drawn,
        rows.not_finite,
        settings,
        users=rows.user_names,
    )
    without, offered = (int(choose_n(settings.n, sizes)[-1]) for sizes in (given.size, given.offered))
    said = (lowered_n(without, offered, rows.not_finite), repeated_rows(rows.merged, len(given.order)))
    own = replace(rows, utility=given.utility)
    found = found.with_calibration(calibrations(own, rewards, settings.level)).with_notes(notes_for(found, said))
    return under_ceiling(found, settings.noise, rating_noise(rows.rated))


def under_ceiling(found: Diagnosis, noise: float | None, rated: float = math.nan) -> Diagnosis:
    """Add the ceiling, where anything is known of the utilities' noise, and the sentences that follow.

    Args:
        found: with its calibrations.
        noise: declared standard deviation of a rating.
        rated: variance of the noise by repeated ratings; NaN without any, or where folds know it.
    """
    found = with_ceiling(with_rated(found, rated), noise)
    return found if found.ceiling is None else reworded(found)


def notes_for(found: DiagnosisResult, said: Iterable[str | None]) -> dict[str, tuple[str, ...]]:
    """Give every model the same notes, those that there are."""
    return dict.fromkeys(found.models, tuple(note for note in said if note is not None))


def diagnose_blocks(
    blocks: Blocks | BlockTasks,
    n: IntArray,
    not_finite: int,
    settings: Settings,
    users: Sequence[str] | None = None,
) -> Diagnosis:
    """Diagnose pools that come in blocks, so that only one block is in memory at a time.

    Args:
        blocks: of pools.
        n: shape (K,), from :func:`choose_n`.
        not_finite: rows that were left out of the pools.
        settings: how.
        users: all users in the order in which they are reported; sorted where None.
    """
    rules, price = settings.all_rules(), settings.stated_price()
    measured = measure_blocks(blocks, n, rules, users)
    queries = measured.queries
    header = Header(
        name=settings.name,
        signature={"version": version("bestfor"), "rule": "argmax", **settings.signature_entries()},
        averaging=settings.averaging,
        level=settings.level,
        queries=len(queries),
        users=len(queries.user_ids),
        candidates=int(queries.size.sum()),
        dropped=Dropped(measured.too_few_candidates, not_finite),
        resampling=settings.resampling(),
        rules=tuple(rule.name for rule in rules),
        prices=DOUBLING_PRICES if price is None else (price,),
    )
    facts = facts_of_queries(queries, n, settings.averaging, measured.texts, rules)
    sampled, suspected = sample_queries(queries, settings.averaging), facts.suspected()
    wanted: list[tuple[IntArray, int | None]] = [(sampled.rows, max(MOST_CANDIDATES, int(n[-1])))]
    if len(suspected):
        wanted.append((suspected, None))
    pools, *others = measured.pools_at(*wanted)
    if others:
        facts = facts.with_suspects(others[0].moved(measured.offset))
    beyond = measure_sample(queries, n, settings.averaging, sample_pools(sampled, pools), price)
    distinct = int(queries.distinct.sum(dtype=np.int64))
    evidence = replace(facts.evidence, beyond=beyond, offset=measured.offset, distinct=distinct)
    found = assemble(header, n, (evidence,), facts.models)
    return found.with_notes(notes_for(found, (copies(queries.size, queries.distinct),)))


def choose_n(n: Sequence[int] | npt.NDArray[np.integer[Any]] | None, size: IntArray) -> IntArray:
    """Choose the values of N that are reported.

    Args:
        n: wanted values; None takes powers of two up to the common pool size, and that size (the largest that nine
            queries of ten reach; or half of them, or any, if that is 1).
        size: shape (Q,), candidates of every query.

    Returns:
        Shape (K,), increasing.

    Raises:
        InputError: not whole numbers above 0, or one larger than every pool.
    """
    if n is None:
        sizes = np.sort(size)
        reached = [int(sizes[int(share * len(sizes))]) for share in (0.1, 0.5)] + [int(sizes[-1])]
        common = next((size for size in reached if size > 1), 1)
        return np.array(sorted({*(2**k for k in range(common.bit_length())), common}), dtype=np.int64)
    drawn = np.unique(np.asarray(n))
    if drawn.ndim != 1 or len(drawn) == 0 or not np.issubdtype(drawn.dtype, np.integer) or drawn[0] < 1:
        raise InputError("n", str(list(n)), "whole numbers of candidates, each at least 1")
    largest = int(size.max())
    if int(drawn[-1]) > largest:
        raise InputError("n", f"N = {int(drawn[-1])}", f"at most {largest}, the candidates of the largest pool")
    return drawn.astype(np.int64)


def _digest(rows: SortedRows, queries: IntArray) -> str:
    """Hash ids, utilities and rewards, whatever order the rows came in (SHA-256)."""
    size = rows.size[queries]
    kept = np.repeat(rows.start[queries] - np.cumsum(size) + size, size) + np.arange(int(size.sum()))
    source = rows.order[kept]
    first = rows.order[rows.start[queries]]
    users, user = np.unique(rows.user[first], return_inverse=True)
    names = (decode(rows.user_names, users), decode(rows.query_names, rows.query[first]))
    parts = [*("\x1f".join(each).encode() for each in names), user.astype(np.int64).tobytes(), size.tobytes()]
    parts.append(rows.index[kept].tobytes())
    numbers = (rows.utility, *(rows.rewards[name] for name in sorted(rows.rewards)))
    return hash_parts(chain(parts, (values[source].tobytes() for values in numbers)))


@dataclass(frozen=True)
class Panels:
    """Means with their influences over all folds, from which every model's intervals come.

    Attributes:
        header: of the diagnosis.
        n: shape (K,).
        curves, quantities, beyond: of all folds.
        offset: what was subtracted from every utility.
        each: candidates of a query that are no copies, on average.
        laws: name of a model -> each fold's users and their parts of the laws.
    """

    header: Header
    n: IntArray
    curves: Panel[CurveMean]
    quantities: QuantityPanels
    beyond: tuple[SampleMeasurements, ...]
    offset: float = 0.0
    each: float = float("nan")
    laws: Mapping[str, Sequence[FoldOfLaws]] = field(default_factory=dict[str, Sequence[FoldOfLaws]])

    def utility(self, mean: CurveMean) -> Estimate:
        """Estimate a mean utility with its interval, the offset added."""
        return self.curves.interval({mean: 1.0}, WHOLE).moved(self.offset)


def assemble(
    header: Header, n: IntArray, evidence: tuple[FoldInfluences, ...], facts: Mapping[str, ModelFacts]
) -> Diagnosis:
    """Put intervals, comparisons, findings and a headline on the evidence.

    Args:
        header: of the diagnosis.
        n: shape (K,).
        evidence: one a fold.
        facts: each model's facts, already averaged over the folds.

    Returns:
        The diagnosis, without its folds.
    """
    curves = Panel([one.curves for one in evidence], header.level, header.resampling)
    quantities = QuantityPanels.of(
        Panel([one.quantities for one in evidence], header.level, header.resampling),
        [one.resampled for one in evidence],
    )
    beyond = tuple(one.beyond for one in evidence if one.beyond is not None)
    each = sum(one.distinct for one in evidence) / header.queries
    offset = float(np.mean([one.offset for one in evidence]))
    laws = {name: [(one.curves.user_ids, one.laws[name]) for one in evidence if name in one.laws] for name in facts}
    known = {name: found for name, found in laws.items() if len(found) == len(evidence)}
    panels = Panels(header, n, curves, quantities, beyond, offset, each, known)
    models = {name: _model(name, panels, one) for name, one in facts.items()}
    best = max(models, key=lambda name: models[name].rank)
    diagnosis = Diagnosis(
        **vars(header),
        pool_mean=panels.utility(POOL),
        oracle=_curve(n, [panels.utility(CurveMean("oracle", drawn)) for drawn in n.tolist()]),
        models=models,
        comparisons=comparisons(best, models, n, (curves, panels.quantities)),
        headline="",
        evidence=evidence,
        pools_used=pools_used(panels.beyond) if panels.beyond else None,
    )
    return reworded(diagnosis)


def _model(name: str, panels: Panels, facts: ModelFacts) -> ModelDiagnosis:
    n, curves = panels.n, panels.curves
    drawn = n.tolist()
    gain = _curve(n, [curves.interval(_gain(name, one), WHOLE) for one in drawn])
    captured = [_captured(curves, name, one, facts) for one in drawn]
    utility = _curve(n, [panels.utility(CurveMean("pick", one, name)) for one in drawn])
    quantities = _quantities(name, panels, facts)
    needed = _needed(curves, name, n, captured[-1])
    peak = drawn[int(gain.value.argmax())]
    known = name in panels.laws
    found = law_ends(panels.laws[name], panels.header.level, _by_texts(curves, name, n)) if known else (None, UNKNOWN)
    ends, accuracy = found
    return ModelDiagnosis(
        scale=facts.scale,
        utility=utility,
        gain=gain,
        captured=_curve(n, captured),
        peak=peak,
        drop=curves.interval(_step(name, peak, drawn[-1]), WHOLE),
        interval=curves.clusters,
        quantities=quantities,
        law=facts.law,
        law_error={law: _relative(values, gain.value) for law, values in facts.law.items()},
        law_ends=ends,
        pair_accuracy=accuracy,
        ledger=facts.ledger,
        best_n=tuple(best_n(curves, name, price) for price in panels.header.prices),
        users_needed=needed,
        findings=(),
        per_user=facts.per_user,
        edges=EDGES,
        counts=facts.counts,
        suspects=facts.suspects,
        rules=tuple(_other_rule(panels, name, rule) for rule in panels.header.rules),
        outlook=_outlook(name, panels, utility, _precisions(name, panels, quantities, captured[-1], needed)),
    )


def _by_texts(curves: Panel[CurveMean], name: str, n: IntArray) -> FloatArray | None:
    """Find by which factor shared texts enlarge the standard error of the gain at every N, shape (K,); 1 at N = 1."""
    if not curves.two_way:
        return None
    spreads = [curves.spread(_gain(name, drawn), WHOLE) if drawn > 1 else None for drawn in n.tolist()]
    return np.array(
        [
            1.0
            if one is None or not one.variance > one.of_texts
            else (one.variance / (one.variance - one.of_texts)) ** 0.5
            for one in spreads
        ]
    )


def _gain(model: str, drawn: int) -> LinearForm[CurveMean]:
    return {CurveMean("pick", drawn, model): 1.0, POOL: -1.0}


def _step(model: str, before: int, after: int) -> LinearForm[CurveMean]:
    """Express what a model earns at one N more than at another."""
    if before == after:
        return {}
    return {CurveMean("pick", after, model): 1.0, CurveMean("pick", before, model): -1.0}


def _other_rule(panels: Panels, name: str, rule: str) -> OtherRule:
    pairs = [(CurveMean("pick", one, name, rule), CurveMean("pick", one, name)) for one in panels.n.tolist()]
    utility = [panels.utility(other) for other, _ in pairs]
    difference = [panels.curves.interval({other: 1.0, best: -1.0}, WHOLE) for other, best in pairs]
    return OtherRule(rule, _curve(panels.n, utility), _curve(panels.n, difference))


def _outlook(name: str, panels: Panels, utility: Curve, needed: tuple[PrecisionNeeded, ...]) -> Outlook | None:
    if not panels.beyond:
        return None
    header = panels.header
    mean = panels.curves.value(MEAN, WHOLE)
    known = ExactCurve(panels.n, utility.value, mean, header.level, header.resampling, panels.offset)
    return outlook(name, panels.beyond, known, needed, header.prices)


def _precisions(
    name: str, panels: Panels, quantities: Quantities, captured: Estimate, needed: tuple[Needed, ...]
) -> tuple[PrecisionNeeded, ...]:
    panel, present = panels.quantities.folds, (panels.header.users, panels.header.queries)
    alpha, beta = share_needed(panel, collapsed_share(name), AIM), share_needed(panel, negative_ratio(name), AIM)
    users = next((one.users for one in needed if one.half_width == AIM), None)
    return (
        precision("captured", captured, users, present),
        precision("alpha", quantities.alpha, alpha, present),
        precision("beta", quantities.beta, beta, present),
    )


def _needed(curves: Panel[CurveMean], name: str, n: IntArray, captured: Estimate) -> tuple[Needed, ...]:
    if not np.isfinite(captured.value):
        return tuple(Needed(half, None) for half in HALF_WIDTHS)
    drawn = int(n[-1])
    forms = (_gain(name, drawn), headroom_at(drawn))
    return tuple(Needed(half, curves.users_needed(*forms, half)) for half in HALF_WIDTHS)


def _quantities(name: str, panels: Panels, facts: ModelFacts) -> Quantities:
    panel, joined = panels.quantities.folds, panels.quantities.joined
    rho, alpha = panel.interval(*mean_correlation(name)), panel.share(*collapsed_share(name))
    rho_plus, rho_minus = panel.pooled(*mean_positive(name)), panel.pooled(*mean_negative(name))
    plus, minus = joined.interval(*mean_positive(name)), joined.interval(*mean_negative(name))
    other_alpha = panel.value({QuantityMean("other", name): 1.0}, {QuantityMean("other_judged", name): 1.0})
    missing = {
        "alpha": alpha.value,
        "alpha_other_scale": other_alpha,
        "rho": rho.value,
        "rho_plus": rho_plus,
        "rho_minus": rho_minus,
    }
    return Quantities(
        alpha=alpha,
        alpha_other_scale=other_alpha,
        beta=panel.share(*negative_ratio(name)),
        rho_plus=rho_plus,
        rho_minus=rho_minus,
        rho=rho,
        reasons=reasons_for({what for what, value in missing.items() if np.isnan(value)}, facts),
        leakage_gain=facts.ledger.leakage,
        active_queries=facts.active_queries,
        corrected=facts.corrected,
        beta_by_chance=negative_by_chance(rho.value, panels.each),
        rho_plus_ends=_ends(plus),
        rho_minus_ends=_ends(minus),
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    low, high = (math.nan if end is None else end for end in (estimate.low, estimate.high))
    return low, high


def _captured(curves: Panel[CurveMean], model: str, drawn: int, facts: ModelFacts) -> Estimate:
    if drawn == 1 or not (facts.per_user.headroom[np.isfinite(facts.per_user.captured)] > 0).any():
        return Estimate(float("nan"))
    return curves.interval(_gain(model, drawn), headroom_at(drawn))


def _relative(law: FloatArray, observed: FloatArray) -> FloatArray:
    error = np.full(len(law), np.nan)
    np.divide(law - observed, observed, out=error, where=np.abs(observed) > 1e-12)
    error[np.abs(error) < EXACT] = 0.0
    return error


def _curve(n: IntArray, estimates: list[Estimate]) -> Curve:
    value, low, high = (
        np.array([np.nan if x is None else x for x in column], dtype=np.float64)
        for column in zip(*((one.value, one.low, one.high) for one in estimates), strict=True)
    )
    return Curve(n, value, low, high)
