"""Write the sentences of a diagnosis: findings, headline, advice, reasons, and summaries as text and as a small table.

A finding says what was seen, what causes it and what to do next. :func:`reworded` writes findings and headline anew
from the numbers, also of a diagnosis that was read from JSON; a sentence whose numbers are unknown is left out.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bestfor.diagnostics.attainable import attainable
from bestfor.diagnostics.beyond.extrapolate import both_ends
from bestfor.diagnostics.calibrated import calibrated
from bestfor.diagnostics.cautions import one_user_decides, reward_is_utility, says_nothing, sure_mean
from bestfor.diagnostics.evidence import ModelFacts
from bestfor.diagnostics.fitting_law import FITTING, fitting_law
from bestfor.diagnostics.hacking import NO_SIGN, hacked
from bestfor.diagnostics.headline import ONE_USER, headline, number, share_range
from bestfor.diagnostics.intervals.clustered import FEWEST_USERS
from bestfor.diagnostics.quantities.mixture import FEWEST_QUERIES, SMALLEST_POOL
from bestfor.diagnostics.words_beyond import Exchange, matters, stopping
from bestfor.diagnostics.words_level import LARGEST_OF, level_models, shrunk_share
from bestfor.types import Estimate

if TYPE_CHECKING:
    from bestfor.diagnostics.beyond.outlook import Outlook
    from bestfor.diagnostics.result import BestN, Curve, DiagnosisResult, ModelDiagnosis

WIDTH = 100
MOST = 6
AIM = 0.1
WORTH_SAYING = 0.05
"""Shares and relative errors below this are not worth a sentence."""

TOO_FEW = "Too few users to tell:"
ONE_CANDIDATE = "every query has one candidate: within a query nothing can vary"
NO_SPREAD = "utilities do not vary within queries"
NO_ACTIVE = "no active query: rewards or utilities are constant in every query, or their users have collapsed"
SIGNS = {"rho_plus": "every correlation is negative", "rho_minus": "no correlation is negative"}
FEW = f"needs {FEWEST_QUERIES} active queries with {SMALLEST_POOL} candidates or more (in every fold)"
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
FALLS = "More candidates make it worse"
LAW_SAYS = "The law says"
NOTHING = "Nothing stands out"
UNCORRECTED = "The noise of small pools"
_EXPLAINING = (LAW_SAYS, NOTHING, UNCORRECTED, LARGEST_OF, *FITTING, "At N = ")
"""How findings begin that ask for nothing."""
Finding = Callable[["DiagnosisResult", "ModelDiagnosis"], str | None]
Worded = TypeVar("Worded", bound="DiagnosisResult")


def reworded(diagnosis: Worded) -> Worded:
    """Write headline and findings anew from the numbers; where these are unknown, sentences stay as they are."""
    if diagnosis.best is None or not len(diagnosis.n):
        return diagnosis
    models = {
        name: replace(_with_verdict(diagnosis, model), findings=findings(diagnosis, name))
        if _same_n(diagnosis, model)
        else model
        for name, model in diagnosis.models.items()
    }
    return replace(diagnosis, models=models, headline=headline(diagnosis, diagnosis.best))


def _with_verdict(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> ModelDiagnosis:
    """Write the verdict on stopping anew, where its numbers are known."""
    given = _exchange(model)
    headroom = float(diagnosis.oracle.value[-1] - diagnosis.pool_mean.value)
    if model.outlook is None or given is None or math.isnan(headroom):
        return model
    replay = model.outlook.stopping
    replay = replace(replay, verdict=stopping(replay.advantage, headroom, given))
    return replace(model, outlook=replace(model.outlook, stopping=replay))


def _exchange(model: ModelDiagnosis) -> Exchange | None:
    """Compare what the stopping rule draws and gains with the best fixed N at the same cost; None where unknown."""
    outlook = model.outlook
    if outlook is None or outlook.stopping.reason or math.isnan(outlook.stopping.advantage.value):
        return None
    replay = outlook.stopping
    fixed = next((one for one in outlook.best_fixed_n if one.cost_per_candidate == replay.cost_per_candidate), None)
    if fixed is None or math.isnan(fixed.net.value):
        return None
    cost = replay.cost_per_candidate
    return Exchange(replay.drawn, fixed.n, replay.utility - fixed.net.value - fixed.n * cost, cost)


def _same_n(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> bool:
    return np.array_equal(model.utility.n, diagnosis.n)


def findings(diagnosis: DiagnosisResult, name: str) -> tuple[str, ...]:
    """List what stands out about one model, each with its cause and the next step.

    Args:
        diagnosis: complete but for findings and headline.
        name: of the model.

    Returns:
        At most six sentences, the most pressing first; one that says all is well where nothing stands out.
    """
    model = diagnosis.models[name]
    troubles: tuple[Finding, ...] = (
        _one_user,
        _too_few,
        reward_is_utility,
        one_user_decides,
        _no_headroom,
        _no_gain,
        _falls,
        _collapsed,
        hacked,
        level_models,
        _law,
        _other_rule,
        _left_out,
        _few_users,
    )
    advice: tuple[Finding, ...] = (
        larger_pools,
        own_n,
        stop_early,
        attainable,
        shrunk_share,
        _uncorrected,
        fitting_law,
    )
    found = [sentence for finding in troubles if (sentence := finding(diagnosis, model))]
    if not found and not math.isnan(model.law["normal"][-1]):
        nobody = "" if math.isnan(model.quantities.alpha.value) else ", and no user has collapsed"
        found = [f"{NOTHING}: the curve grows as the law says{nobody}."]
    found += [sentence for finding in advice if (sentence := finding(diagnosis, model))]
    return tuple(sorted(found, key=_explains)[:MOST])


def actions(sentences: Sequence[str]) -> tuple[str, ...]:
    """Choose the findings that ask for something; those that explain or reassure are left out.

    Args:
        sentences: findings of one model.
    """
    return tuple(sentence for sentence in sentences if not _explains(sentence))


def _explains(sentence: str) -> bool:
    """Tell sentences that explain or reassure from those that ask for something: they come last."""
    return sentence.startswith(_EXPLAINING) or sentence.endswith(f"{NO_SIGN}.")


def _range(estimate: Estimate, diagnosis: DiagnosisResult) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (_utility(diagnosis, end) for end in (estimate.low, estimate.high))
    return f", {100 * diagnosis.level:g}% interval {low} to {high}"


def _utility(diagnosis: DiagnosisResult, value: float, *, signed: bool = False) -> str:
    """Write a utility with the digits that the headroom takes, so that its unit does not matter."""
    return number(value, float(diagnosis.oracle.value[-1] - diagnosis.pool_mean.value) / 10, signed=signed)


def _counted(some: int, users: int) -> str:
    return f"{some} of {users} users {'has' if some == 1 else 'have'}"


def _largest(diagnosis: DiagnosisResult) -> int:
    return int(diagnosis.n[-1])


def _one_user(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    if diagnosis.users > 1:
        return None
    return f"{ONE_USER} Nothing below is told from chance: add rows of other users before deciding anything."


def _no_headroom(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    if _largest(diagnosis) == 1 or np.isfinite(model.captured.value[-1]):
        return None
    return (
        "There is nothing to win: a query's candidates all have the same utility. "
        "Sample more varied candidates (a higher temperature) or measure a finer utility."
    )


def _no_gain(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    n = _largest(diagnosis)
    gain = model.gain.at(n)
    if n == 1 or not np.isfinite(model.captured.value[-1]) or gain.low is None or gain.high is None or gain.low > 0:
        return None
    if gain.high < 0:
        lost = f"{_utility(diagnosis, gain.value)} at N = {n}{_range(gain, diagnosis)}"
        return (
            f"Choosing by this reward is worse than taking a random candidate: {lost}. "
            "Do not use it; check its sign and what it was trained on."
        )
    return (
        f"No gain is shown: {_utility(diagnosis, gain.value)} at N = {n}{_range(gain, diagnosis)}. "
        "Collect labels for more users, or use a model that shares between users."
    )


def _falls(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    peak, drop = model.peak, model.drop
    if peak in (1, _largest(diagnosis)):
        return None
    if drop.high is None:  # JSON holds no interval of it: the sentence that was made from it tells what it was
        return next((sentence for sentence in model.findings if sentence.startswith(FALLS)), None)
    if drop.high >= 0:
        return None
    return (
        f"{FALLS}: the curve peaks at N = {peak} and has lost {_utility(diagnosis, -drop.value)} by "
        f"N = {_largest(diagnosis)}. The highest rewards are not the best candidates: draw {peak}, "
        "and label some of the highest-scored picks."
    )


def _collapsed(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    count = int(model.per_user.collapsed.sum())
    if not count or math.isnan(model.quantities.leakage_gain):
        return None
    gains = model.per_user.gain[model.per_user.collapsed]
    adds = _utility(diagnosis, model.quantities.leakage_gain)
    if sure_mean(gains, diagnosis.level):
        whole = _utility(diagnosis, model.gain.at(_largest(diagnosis)).value)
        return (
            f"{_counted(count, diagnosis.users)} rewards on a scale of their own that hardly differ, and their picks "
            f"still add {adds} to the gain of {whole}: their scale is small, not their sense. Keep picking for "
            "them; do not compare rewards between users."
        )
    helps = model.quantities.leakage_gain > 0
    until = "their picks are not shown to help" if helps else "one candidate is enough for them"
    return (
        f"{_counted(count, diagnosis.users)} collapsed: the rewards of their candidates hardly differ, and their picks "
        f"add {adds} to the gain. Add labels for them or share strength between users; "
        f"until then {until}."
    )


def _law(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    n = _largest(diagnosis)
    gain, law = model.gain.at(n), float(model.law["normal"][-1])
    if n == 1 or gain.low is None or gain.high is None or gain.low <= law <= gain.high or says_nothing(model):
        return None
    if abs(law - gain.value) <= WORTH_SAYING * abs(gain.value):
        return None
    terms = {term: float(getattr(model.ledger, term)) for term in _TERMS}
    if any(map(math.isnan, (law, *terms.values()))):
        return None
    way = 1.0 if gain.value > law else -1.0
    term = max(terms, key=lambda one: way * terms[one])
    cause = _TERMS[term][0 if terms[term] > 0 else 1]
    says, curve = _utility(diagnosis, law), _utility(diagnosis, gain.value)
    return (
        f"{LAW_SAYS} {says} at N = {n} and the exact curve {curve}{_range(gain, diagnosis)}. "
        f"The term '{term}' ({_utility(diagnosis, terms[term], signed=True)}) does most of it: {cause}."
    )


def _other_rule(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    alpha, other = model.quantities.alpha.value, model.quantities.alpha_other_scale
    if model.scale != "utility" or math.isnan(alpha) or abs(alpha - (0.0 if math.isnan(other) else other)) <= 0.1:
        return None
    compared = (
        "by comparison with other users everybody is alike"
        if math.isnan(other)
        else (f"{100 * other:.0f}% by comparison with other users")
    )
    return (
        f"The two rules of collapse disagree: {100 * alpha:.0f}% of users by the utility's scale, {compared}. "
        "Check that the rewards are in the utility's units."
    )


def _uncorrected(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    q = model.quantities
    if q.corrected is not None or not q.active_queries or hacked(diagnosis, model):
        return None
    return (
        f"{UNCORRECTED} could not be taken out of the correlations: that needs 20 queries with 20 candidates "
        "each. Hacked queries (beta) are over-counted, and rho_plus and rho_minus lie too far from 0."
    )


def _left_out(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    few, rows = diagnosis.dropped.too_few_candidates, diagnosis.dropped.not_finite
    parts: list[str] = []
    if few:
        parts.append(f"{few} queries with fewer than {_largest(diagnosis)} candidates")
    if rows:
        parts.append(f"{rows} rows whose utility or reward is not finite")
    if not parts:
        return None
    return f"Left out: {' and '.join(parts)}. Ask for a smaller largest N, or complete the pools."


def _too_few(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say what would be enough where too few users carry the gain for an interval that holds."""
    gain = model.gain.at(_largest(diagnosis))
    if (
        diagnosis.users < 2
        or _largest(diagnosis) == 1
        or gain.low is not None
        or not np.isfinite(model.captured.value[-1])
    ):
        return None
    if diagnosis.users < FEWEST_USERS:
        why = f"{diagnosis.users} users carry no interval that holds ({FEWEST_USERS} are the fewest)"
    else:
        why = f"too few of the {diagnosis.users} users differ in what they gain, or one decides, so no interval holds"
    needed = next((one.users for one in model.users_needed if one.half_width == AIM), None)
    enough = 0 if needed is None else max(needed, FEWEST_USERS)
    known = f" About {enough} users like these would know captured to +-{AIM}." if enough else ""
    return f"{TOO_FEW} {why}.{known} More candidates or queries of the same users do not help."


def _few_users(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    captured = model.captured.at(_largest(diagnosis))
    if captured.low is None or captured.high is None or captured.high - captured.low <= 0.3:
        return None
    known = f"Captured is known to +-{(captured.high - captured.low) / 2:.2f} only, from {diagnosis.users} users"
    needed = next((one.users for one in model.users_needed if one.half_width == AIM), None)
    if needed is None:
        return f"{known}; more users alone will not bring it to +-{AIM}: the texts are too few."
    return f"{known}; +-{AIM} would take about {needed} users like these."


def larger_pools(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say whether more candidates than the largest N would pay, where the largest still does."""
    if reward_is_utility(diagnosis, model):
        return None
    largest, outlook = int(diagnosis.n[-1]), model.outlook
    best = next(iter(model.best_n), None)
    if outlook is None or best is None or best.n != largest or best.verdict not in ("pays", "") or largest == 1:
        return None
    reach = outlook.extrapolation
    per = "doubling of N" if best.per == "doubling" else best.per
    pays = f"N = {largest}, the largest measured, pays even where each {per} costs {best.stated.label}"
    if reach.smallest_pool >= 2 * largest:
        return f"{pays}, and every pool holds {reach.smallest_pool} candidates: ask for a larger N."
    if reach.trusted_to is None or reach.trusted_to <= largest:
        why = reach.verdict.removeprefix("not extrapolable: ")
        return f"{pays}, but what lies beyond cannot be read off ({why}). Sample larger pools for some queries first."
    aim = min(2 * largest, reach.trusted_to)
    step = next((step for step in reach.steps if step.trusted and step.n >= aim), None)
    if step is None:
        return None
    ends = both_ends(step.order_2, step.gao)
    now, low, high = (_utility(diagnosis, one) for one in (model.gain.at(largest).value, *ends))
    twice = ", a doubling" if step.n == 2 * largest else ""
    return (
        f"{pays}. By extrapolation, not measured, the gain of {now} becomes {low} to {high} at N = {step.n}{twice}. "
        "Sample larger pools for some queries first: nothing here shows a cliff or a ceiling behind the pool."
    )


def own_n(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say whether users should get their own N."""
    chosen = None if model.outlook is None else model.outlook.per_user_n
    if chosen is None or not matters(chosen.gain, float(diagnosis.oracle.value[-1] - diagnosis.pool_mean.value)):
        return None
    more = _utility(diagnosis, chosen.gain.value)
    return (
        f"Users differ in what a candidate is worth to them: one N for each ({chosen.own_n:.1f} on average) earns "
        f"{more} more than N = {chosen.common_n:.0f} for all, on queries that did not choose it. "
        "Give users with weak rewards fewer candidates."
    )


def stop_early(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say whether a stopping rule earned more than the best fixed N."""
    if model.outlook is None or not model.outlook.stopping.pays or reward_is_utility(diagnosis, model):
        return None
    given, advantage = _exchange(model), model.outlook.stopping.advantage
    if given is None or not given.ahead:
        return None
    verdict = stopping(advantage, float(diagnosis.oracle.value[-1] - diagnosis.pool_mean.value), given)
    return f"{verdict[:-1]} ({given.cost:.3g} each). Replay the rule on fresh logs before turning it on."


def reasons_for(missing: set[str], facts: ModelFacts) -> dict[str, str]:
    """Give a reason for each quantity that cannot be had.

    Args:
        missing: of alpha, alpha_other_scale, rho, rho_plus and rho_minus, those that are NaN.
        facts: of the model.
    """
    shares = [what for what in ("alpha", "alpha_other_scale") if what in missing]
    reasons = {what: facts.unknown.get(what, ONE_CANDIDATE) for what in shares}
    if not facts.active_queries:
        flat = facts.ledger.n > 1 and not np.isfinite(facts.per_user.captured).any()
        why = ONE_CANDIDATE if ONE_CANDIDATE in reasons.values() else NO_SPREAD if flat else NO_ACTIVE
        reasons |= dict.fromkeys(("beta", "beta_by_chance", "rho", "rho_plus", "rho_minus"), why)
    else:
        reasons |= {what: why for what, why in SIGNS.items() if what in missing}
    if facts.corrected is None:
        reasons["corrected"] = NO_SPREAD if reasons.get("rho") == NO_SPREAD else FEW
    return reasons


def summary(diagnosis: DiagnosisResult) -> str:
    """Summarise a diagnosis: the headline, a table of curves, quantities and findings, at most 100 characters wide."""
    n = diagnosis.n.tolist()
    title = f"{diagnosis.name or 'diagnosis'}: {_count(diagnosis)}"
    lines = [title, *_wrapped(diagnosis.headline, ""), "", "utility".ljust(24) + _cells([f"N={one}" for one in n])]
    lines.append(_row("oracle", diagnosis.oracle))
    lines += [_row(name, model.utility) for name, model in diagnosis.models.items()]
    lines += ["", "captured".ljust(24) + _cells([f"N={one}" for one in n])]
    lines += [_row(name, model.captured) for name, model in diagnosis.models.items()]
    for name, model in diagnosis.models.items():
        lines += ["", f"{name} ({model.scale} scale, interval over {model.interval})", *_quantities(model)]
        for finding in model.findings:
            lines += _wrapped(finding, "  - ")
    return "\n".join(lines)


def one_line(diagnosis: DiagnosisResult) -> str:
    """Summarise a diagnosis in one line: name, what was used, and the best model's captured share."""
    name = f" {diagnosis.name!r}" if diagnosis.name else ""
    text = f"<Diagnosis{name}: {_count(diagnosis)}"
    if diagnosis.best is None:
        return f"{text}; no models>"
    captured = diagnosis.models[diagnosis.best].captured
    if not len(captured.n) or math.isnan(captured.value[-1]):
        return f"{text}; {diagnosis.best}: captured share unknown>"
    n = int(captured.n[-1])
    share = captured.at(n)
    return f"{text}; {diagnosis.best} captures {100 * share.value:.0f}% at N={n}{share_range(share, diagnosis.level)}>"


_HEAD = ("model", "captured", "interval", "collapsed (alpha)", "hacked (beta)", "rho", "N that pays")


def small_table(diagnosis: DiagnosisResult) -> str:
    """Summarise a diagnosis as an HTML table of a row a model, for notebooks; all text is escaped."""
    head = "".join(f"<th>{one}</th>" for one in _HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _table_row(name, model, diagnosis.level)) + "</tr>"
        for name, model in diagnosis.models.items()
    )
    at = f", N = {int(diagnosis.n[-1])}" if len(diagnosis.n) else ""
    caption = escape(f"{diagnosis.name or 'diagnosis'}: {_count(diagnosis)}{at}")
    said = f"<p>{escape(diagnosis.headline)}</p>" if diagnosis.headline else ""
    table = f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div>{said}{table}</div>"


def _table_row(name: str, model: ModelDiagnosis, level: float) -> tuple[str, ...]:
    q, captured = model.quantities, model.captured
    share = captured.at(int(captured.n[-1])) if len(captured.n) else Estimate(math.nan)
    pays = next((f"{one.n} ({one.verdict})" if one.verdict else str(one.n) for one in model.best_n), "-")
    shown = ["-" if math.isnan(one) else f"{100 * one:.0f}%" for one in (share.value, q.alpha.value, q.beta.value)]
    rho = "-" if math.isnan(q.rho.value) else f"{q.rho.value:.2f}"
    return name, shown[0], share_range(share, level).strip(" ()"), *shown[1:], rho, pays


def _count(diagnosis: DiagnosisResult) -> str:
    folds = f", mean of {len(diagnosis.folds)} folds" if diagnosis.folds else ""
    return f"{diagnosis.users} users, {diagnosis.queries} queries, {diagnosis.candidates} candidates{folds}"


def _quantities(model: ModelDiagnosis) -> list[str]:
    q, ledger = model.quantities, model.ledger
    captured = model.captured.at(ledger.n)
    best = ", ".join(f"{one.n} at {one.stated.label}{_said(one)}" for one in model.best_n)
    lines = [
        f"  captured at N={ledger.n}: {_estimate(captured)}{_beyond_one(captured)}",
        f"  alpha {_estimate(q.alpha)}   beta {_estimate(q.beta)}   rho {_estimate(q.rho)}",
    ]
    if q.corrected is not None:
        c = q.corrected
        told = not math.isnan(c.beta_05_high)
        beta = "" if told else f"beta {c.beta:.3f}  "  # files of before have no interval
        lines.append(f"  without noise: {beta}rho+ {c.rho_plus:.3f}  rho- {c.rho_minus:.3f}")
        if told:
            lines.append(
                f"  truly below -0.05: {c.beta_05:.3f} ({c.beta_05_low:.3f} to {c.beta_05_high:.3f}) of queries"
            )
    lines.append(f"  law {ledger.law:.3f} -> observed {ledger.observed:.3f} at N={ledger.n}")
    per = next((one.per for one in model.best_n), "doubling")
    lines += _wrapped(f"best N where a {per} costs something: {best}", "  ")
    for other in model.rules:
        utility, difference = _estimate(other.utility.at(ledger.n)), _estimate(other.difference.at(ledger.n))
        lines.append(f"  rule {other.rule} at N={ledger.n}: utility {utility}, {difference} over the highest reward")
    if model.outlook is not None:
        lines += _outlook(model.outlook)
    if model.calibration is not None:
        lines += _wrapped(f"std: {calibrated(model.calibration)}", "  ")
    return lines


def _said(best: BestN) -> str:
    return f" ({best.verdict})" if best.verdict else ""


def _outlook(outlook: Outlook) -> list[str]:
    noisy = [(n, sd) for n, sd in zip(outlook.three_draw.n.tolist(), outlook.three_draw.sd.tolist(), strict=True) if sd]
    fixed = ", ".join(f"{one.n} at {one.cost_per_candidate:.3g}" for one in outlook.best_fixed_n)
    lines = _wrapped(f"best N where each candidate costs something (in utility): {fixed}", "  ")
    lines += _wrapped(f"beyond the pool: {outlook.extrapolation.verdict}", "  ")
    if noisy:
        n, sd = noisy[-1]
        lines.append(f"  the usual 3-draw estimate would carry +-{sd:.4f} at N={n}; the curve here carries none")
    return lines


def _estimate(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _beyond_one(share: Estimate) -> str:
    return "" if share.high is None or share.high <= 1 else " (nothing captures more than 1: a t interval is symmetric)"


def _row(name: str, curve: Curve) -> str:
    label = name if len(name) < 24 else name[:20] + "..."
    return label.ljust(24) + _cells(["-" if math.isnan(value) else f"{value:.3f}" for value in curve.value.tolist()])


def _cells(cells: list[str]) -> str:
    return "".join(cell.rjust(9) for cell in cells)


def _wrapped(text: str, bullet: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet))
