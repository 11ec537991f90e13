"""Why a quantity cannot be had."""

from __future__ import annotations

from bestfor.diagnostics.evidence import ModelFacts
from bestfor.diagnostics.quantities.mixture import FEWEST_QUERIES, SMALLEST_POOL

ONE_CANDIDATE = "every query has one candidate: within a query nothing can vary"
NO_ACTIVE = "no active query: rewards or utilities are constant in every query, or their users have collapsed"
SIGNS = {"rho_plus": "every correlation is negative", "rho_minus": "no correlation is negative"}
FEW = f"needs {FEWEST_QUERIES} active queries with {SMALLEST_POOL} candidates or more (in every fold)"


def reasons_for(missing: set[str], facts: ModelFacts) -> dict[str, str]:
    """A reason for each quantity that cannot be had.

    Args:
        missing: of alpha, rho, rho_plus and rho_minus, those that are NaN.
        facts: of the model.
    """
    reasons: dict[str, str] = {}
    if "alpha" in missing:
        reasons |= dict.fromkeys(("alpha", "alpha_other_scale"), ONE_CANDIDATE)
    if not facts.active_queries:
        why = ONE_CANDIDATE if "alpha" in missing else NO_ACTIVE
        reasons |= dict.fromkeys(("beta", "beta_by_chance", "rho", "rho_plus", "rho_minus"), why)
    else:
        reasons |= {what: why for what, why in SIGNS.items() if what in missing}
    if facts.corrected is None:
        reasons["corrected"] = FEW
    return reasons
