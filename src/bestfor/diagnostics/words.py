"""Plain sentences: what was seen, what causes it, what to do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bestfor.diagnostics.advice import COST, larger_pools, own_n, stop_early
from bestfor.types import Estimate

if TYPE_CHECKING:
    from bestfor.diagnostics.result import Diagnosis, ModelDiagnosis

HEADLINE_COST = COST
MOST = 6
AIM = 0.1
ONE_USER = "One user alone carries no interval and says nothing about other users."
WORTH_SAYING = 0.05
"""Shares and relative errors below this are not worth a sentence."""

Rule = Callable[["Diagnosis", "ModelDiagnosis"], str | None]

_TERMS = {
    "growth": (
        "the rewards have heavier tails than normal ones: read the 'reward' law instead",
        "the rewards have lighter tails than normal ones: read the 'reward' law instead",
    ),
    "alpha": (
        "collapsed users weigh less in the average than their number says",
        "collapsed users weigh more in the average than their number says",
    ),
    "sigma": (
        "candidates differ more where the model is awake than elsewhere",
        "candidates differ less where the model is awake than elsewhere",
    ),
    "covariance": (
        "the reward is better where there is more to win",
        "the reward is worse where there is more to win: add labels for queries with a wide spread of utilities",
    ),
    "shape": (
        "the highest rewards are better than the correlation lets expect",
        "the highest rewards promise more than they hold (over-optimisation): label some picks and refit",
    ),
    "leakage": (
        "users counted as collapsed still gain, since a pick needs no spread",
        "the picks for users counted as collapsed are worse than random ones: serve them one candidate",
    ),
}


def findings(diagnosis: Diagnosis, name: str) -> tuple[str, ...]:
    """What stands out about one model, each with its cause and the next step.

    Args:
        diagnosis: complete but for findings and headline.
        name: of the model.

    Returns:
        At most six sentences, the most pressing first; one that says all is well where nothing stands out.
    """
    model = diagnosis.models[name]
    troubles: tuple[Rule, ...] = (
        _one_user,
        _no_headroom,
        _no_gain,
        _falls,
        _collapsed,
        _hacked,
        _law,
        _other_rule,
        _uncorrected,
        _left_out,
        _few_users,
    )
    advice: tuple[Rule, ...] = (larger_pools, own_n, stop_early)
    found = [sentence for rule in troubles if (sentence := rule(diagnosis, model))]
    if not found:
        found = ["Nothing stands out: the curve grows as the law says, and no user has collapsed."]
    found += [sentence for rule in advice if (sentence := rule(diagnosis, model))]
    return tuple(found[:MOST])


def headline(diagnosis: Diagnosis, best: str) -> str:
    """One sentence in plain words on the best model."""
    model, n = diagnosis.models[best], int(diagnosis.n[-1])
    headroom = diagnosis.oracle.value[-1] - diagnosis.pool_mean.value
    if n == 1:
        return f"With one candidate there is nothing to choose: the mean utility is {diagnosis.pool_mean.value:.2f}."
    if not np.isfinite(model.captured.value[-1]):
        return "Candidates of a query all have the same utility, so no choice can gain anything."
    text = _earned(model, best, headroom, diagnosis.level)
    if diagnosis.users == 1:
        return f"{ONE_USER} {text}."
    collapsed = int(model.per_user.collapsed.sum())
    text += f"; {_counted(collapsed, diagnosis.users)} collapsed; " if collapsed else "; no user has collapsed; "
    return text + _worth(model, n)


def _earned(model: ModelDiagnosis, best: str, headroom: float, level: float) -> str:
    n = int(model.gain.n[-1])
    gain, captured = model.gain.at(n), model.captured.at(n)
    if gain.value < 0:
        lost = f"{-gain.value:.2f} against a random pick{_range(gain, level)}"
        return f"With N = {n} candidates, {best} loses {lost}; a perfect pick gains {headroom:.2f}"
    return (
        f"With N = {n} candidates, {best} gains {gain.value:.2f} over a random pick, {100 * captured.value:.0f}% of "
        f"the {headroom:.2f} that a perfect pick would gain{_share_range(captured, level)}"
    )


def _worth(model: ModelDiagnosis, n: int) -> str:
    """How many candidates pay, at a price told both ways: of one doubling, and of one candidate."""
    best = next(one.n for one in model.best_n if one.cost_in_utility_units == HEADLINE_COST)
    fixed = () if model.outlook is None else model.outlook.best_fixed_n
    each = next((one.n for one in fixed if one.cost_per_candidate == HEADLINE_COST), None)
    if best == 1:
        return f"more than one candidate does not pay where each doubling costs {HEADLINE_COST}{_doubtful(model)}."
    if best == n:
        text = f"every doubling up to N = {n} pays where it costs {HEADLINE_COST}"
    else:
        text = f"more than N = {best} does not pay where each doubling costs {HEADLINE_COST}"
    return f"{text}." if each is None else f"{text}; N = {each} is best where each candidate costs that."


def _doubtful(model: ModelDiagnosis) -> str:
    low, value = model.gain.low[-1], model.gain.value[-1]
    return ", since no gain can be told from chance" if low <= 0 < value else ""


def _range(estimate: Estimate, level: float) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f", {100 * level:g}% interval {estimate.low:.2f} to {estimate.high:.2f}"


def _share_range(estimate: Estimate, level: float) -> str:
    """The interval of a share, which cannot exceed 1 while its t interval can."""
    if estimate.low is None or estimate.high is None:
        return ""
    capped = ", capped" if estimate.high > 1 else ""
    return f" ({100 * level:g}% interval {100 * estimate.low:.0f}% to {100 * min(estimate.high, 1.0):.0f}%{capped})"


def _counted(some: int, users: int) -> str:
    return f"{some} of {users} users {'has' if some == 1 else 'have'}"


def _largest(diagnosis: Diagnosis) -> int:
    return int(diagnosis.n[-1])


def _no_headroom(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    if _largest(diagnosis) == 1 or np.isfinite(model.captured.value[-1]):
        return None
    return (
        "There is nothing to win: a query's candidates all have the same utility. "
        "Sample more varied candidates (a higher temperature) or measure a finer utility."
    )


def _no_gain(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    n = _largest(diagnosis)
    gain = model.gain.at(n)
    if n == 1 or not np.isfinite(model.captured.value[-1]) or gain.low is None or gain.high is None or gain.low > 0:
        return None
    if gain.high < 0:
        return (
            f"Choosing by this reward is worse than taking a random candidate: {gain.value:.3f} at N = {n}"
            f"{_range(gain, diagnosis.level)}. Do not use it; check its sign and what it was trained on."
        )
    return (
        f"No gain is shown: {gain.value:.3f} at N = {n}{_range(gain, diagnosis.level)}. "
        "Collect labels for more users, or use a model that shares between users."
    )


def _falls(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    peak, drop = model.peak, model.drop
    if peak in (1, _largest(diagnosis)) or drop.high is None or drop.high >= 0:
        return None
    return (
        f"More candidates make it worse: the curve peaks at N = {peak} and has lost {-drop.value:.3f} by "
        f"N = {_largest(diagnosis)}. The highest rewards are not the best candidates: draw {peak}, "
        "and label some of the highest-scored picks."
    )


def _collapsed(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    count = int(model.per_user.collapsed.sum())
    if not count:
        return None
    return (
        f"{_counted(count, diagnosis.users)} collapsed: the rewards of their candidates hardly differ, and their picks "
        f"add {model.quantities.leakage_gain:.3f} to the gain. Add labels for them or share strength between users; "
        "until then one candidate is enough for them."
    )


def _hacked(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    q = model.quantities
    if not q.active_queries or q.beta.value < WORTH_SAYING:
        return None
    seen = f"{100 * q.beta.value:.0f}% of queries show a negative correlation"
    chance = _by_chance(diagnosis, model)
    if q.corrected is None:
        if q.beta.value <= 0.1:
            return None
        if q.beta.low is not None and q.beta.low > q.beta_by_chance:
            return f"{seen}; {chance}. Some of it is more than chance: sample more per query to see where."
        return f"{seen}, but {chance}: sample more per query before acting."
    true = q.corrected.beta_05
    if true < 0.02 or true < q.beta.value / 4:
        return (
            f"{seen}, but sampling noise makes most of that: {chance}, and with the noise taken out about "
            f"{100 * true:.0f}% are truly below -0.05. This is no sign of hacking."
        )
    return (
        f"{seen}, and about {100 * true:.0f}% truly are below -0.05 (the negative ones average "
        f"{q.corrected.rho_minus:.2f}): on these, more candidates make it worse. "
        "Look at the suspects, and label what was picked there."
    )


def _by_chance(diagnosis: Diagnosis, model: ModelDiagnosis) -> str:
    each = round(diagnosis.candidates / diagnosis.queries)
    q = model.quantities
    share = f"{100 * q.beta_by_chance:.0f}%"
    return (
        f"with {each} candidates each {share} would by chance alone if every query had the mean rho = {q.rho.value:.2f}"
    )


def _law(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    n = _largest(diagnosis)
    gain, law = model.gain.at(n), float(model.law["normal"][-1])
    if n == 1 or gain.low is None or gain.high is None or gain.low <= law <= gain.high:
        return None
    if abs(law - gain.value) <= WORTH_SAYING * abs(gain.value):
        return None
    terms = {term: float(getattr(model.ledger, term)) for term in _TERMS}
    way = 1.0 if gain.value > law else -1.0
    term = max(terms, key=lambda one: way * terms[one])
    cause = _TERMS[term][0 if terms[term] > 0 else 1]
    return (
        f"The law says {law:.3f} at N = {n} and the exact curve {gain.value:.3f}{_range(gain, diagnosis.level)}. "
        f"The term '{term}' ({terms[term]:+.3f}) does most of it: {cause}."
    )


def _other_rule(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    alpha, other = model.quantities.alpha.value, model.quantities.alpha_other_scale
    if model.scale != "utility" or abs(alpha - other) <= 0.1:
        return None
    return (
        f"The two rules of collapse disagree: {100 * alpha:.0f}% of users by the utility's scale, "
        f"{100 * other:.0f}% by comparison with other users. Check that the rewards are in the utility's units."
    )


def _uncorrected(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    q = model.quantities
    if q.corrected is not None or not q.active_queries or _hacked(diagnosis, model):
        return None
    return (
        "The noise of small pools could not be taken out of the correlations: that needs 20 queries with 20 candidates "
        "each. Hacked queries (beta) are over-counted, and rho_plus and rho_minus lie too far from 0."
    )


def _left_out(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    few, rows = diagnosis.dropped.too_few_candidates, diagnosis.dropped.not_finite
    parts: list[str] = []
    if few:
        parts.append(f"{few} queries with fewer than {_largest(diagnosis)} candidates")
    if rows:
        parts.append(f"{rows} rows whose utility or reward is not finite")
    if not parts:
        return None
    return f"Left out: {' and '.join(parts)}. Ask for a smaller largest N, or complete the pools."


def _one_user(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    if diagnosis.users > 1:
        return None
    return f"{ONE_USER} Nothing below is told from chance: add rows of other users before deciding anything."


def _few_users(diagnosis: Diagnosis, model: ModelDiagnosis) -> str | None:
    captured = model.captured.at(_largest(diagnosis))
    if captured.low is None or captured.high is None or captured.high - captured.low <= 0.3:
        return None
    known = f"Captured is known to +-{(captured.high - captured.low) / 2:.2f} only, from {diagnosis.users} users"
    needed = next((one.users for one in model.users_needed if one.half_width == AIM), None)
    if needed is None:
        return f"{known}; more users alone will not bring it to +-{AIM}: the texts are too few."
    return f"{known}; +-{AIM} would take about {needed} users like these."
