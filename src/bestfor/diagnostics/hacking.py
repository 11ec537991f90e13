"""Write the sentence about queries whose reward points away: convicted, acquitted, or beyond what the data tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bestfor.diagnostics.cautions import says_nothing
from bestfor.diagnostics.quantities.mixture import Corrected

if TYPE_CHECKING:
    from bestfor.diagnostics.result import DiagnosisResult, ModelDiagnosis

WORTH_SAYING = 0.05
"""A share of negative correlations below this is not worth a sentence."""

WORTH_CONVICTING = 0.01
"""Lower end of the share of clearly negative correlations from which on queries are called hacked."""

ALL_CLEAR = 0.05
"""Upper end of that share up to which a diagnosis sees no sign of hacking."""

NO_SIGN = "no sign of hacking beyond that"
"""How an all-clear ends."""

HEAVY = 1.5
"""Mean of a^2 b^2 from which on tails are called heavy; it is about 1 in normal pools, 2.6 in bivariate t of three."""

HEAVY_TAILS = (
    " Rewards and utilities have heavy tails in the same candidates, which makes such correlations more common."
)


def hacked(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str | None:
    """Say what is known of queries whose reward points away; None where there is nothing to say."""
    q = model.quantities
    numbers = (q.beta.value, q.rho.value, q.beta_by_chance)
    if not q.active_queries or not diagnosis.queries or any(map(math.isnan, numbers)) or q.beta.value < WORTH_SAYING:
        return None
    if says_nothing(model):
        return (
            f"The reward says nothing about the utility: the mean correlation is {q.rho.value:.2f}, and "
            f"{100 * q.beta.value:.0f}% of correlations are negative, as many as chance gives "
            f"({100 * q.beta_by_chance:.0f}%). That is no hacking: do not pick by it."
        )
    seen = f"{100 * q.beta.value:.0f}% of queries show a negative correlation"
    chance = _by_chance(diagnosis, model)
    if q.corrected is None:
        return _without_correction(model, seen, chance)
    if math.isnan(q.corrected.beta_05_high):
        return f"{seen}, but {chance}. The interval of the true share is not in this diagnosis: make it anew."
    return _with_interval(diagnosis, q.corrected, seen, chance)


def _without_correction(model: ModelDiagnosis, seen: str, chance: str) -> str | None:
    beta = model.quantities.beta
    if beta.value <= 0.1:
        return None
    if beta.low is not None and beta.low > model.quantities.beta_by_chance:
        return f"{seen}; {chance}. Some of it is more than chance: sample more per query to see where."
    return f"{seen}, but {chance}: sample more per query before acting."


def _with_interval(diagnosis: DiagnosisResult, c: Corrected, seen: str, chance: str) -> str:
    if c.beta_05_low > WORTH_CONVICTING:
        known = not math.isnan(c.rho_minus) and c.rho_minus != 0
        negative = f" (the negative ones average {c.rho_minus:.2f})" if known else ""
        return (
            f"{seen}, and {_percent(c.beta_05_low)} to {_percent(c.beta_05_high)} truly are below -0.05{negative}: on "
            "these, more candidates make it worse. Look at the suspects, and label what was picked there."
        )
    tails = HEAVY_TAILS if c.heavy_tails > HEAVY else ""
    if c.beta_05_high <= ALL_CLEAR:
        return (
            f"{seen}, but {chance}.{tails} With the noise taken out at most {_percent(c.beta_05_high)} are truly below "
            f"-0.05: {NO_SIGN}."
        )
    return (
        f"{seen}, but {chance}.{tails} Whether any are truly below -0.05 cannot be told: the share may be anything up "
        f"to {_percent(c.beta_05_high)}. {_power(diagnosis, c)}"
    )


def _power(diagnosis: DiagnosisResult, c: Corrected) -> str:
    each = round(diagnosis.candidates / max(diagnosis.queries, 1))
    what = f"With {c.queries_used} queries of about {each} candidates"
    if math.isnan(c.visible):
        return f"{what} no share at -0.2 could be seen: sample more per query."
    return f"{what} a share below {_percent(c.visible)} at -0.2 cannot be seen: sample more per query, or more queries."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if share < 0.095 else f"{100 * share:.0f}%"


def _by_chance(diagnosis: DiagnosisResult, model: ModelDiagnosis) -> str:
    each = round(diagnosis.candidates / diagnosis.queries)
    q = model.quantities
    share = f"{100 * q.beta_by_chance:.0f}%"
    return (
        f"with {each} candidates each {share} would by chance alone if every query had the mean rho = {q.rho.value:.2f}"
    )
