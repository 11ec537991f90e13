"""Whether Best-of-N pays: exact curves, quantities, laws and intervals on plain arrays."""

from bestfor.diagnostics.bootstrap import Panel, Spread, bootstrap_users, wilson
from bestfor.diagnostics.combine import combine_folds
from bestfor.diagnostics.curves import best_of_n, subset_variance
from bestfor.diagnostics.diagnosis import diagnose_arrays
from bestfor.diagnostics.influence import Influences, Texts
from bestfor.diagnostics.laws import Ledger, free_bound, normal_growth
from bestfor.diagnostics.mixture import Corrected
from bestfor.diagnostics.pools import Dropped, Pools, Reward, pools_from_rows
from bestfor.diagnostics.results import (
    BestN,
    Comparison,
    Curve,
    Diagnosis,
    Evidence,
    ModelDiagnosis,
    PerUser,
    Quantities,
    Suspect,
)

__all__ = [
    "BestN",
    "Comparison",
    "Corrected",
    "Curve",
    "Diagnosis",
    "Dropped",
    "Evidence",
    "Influences",
    "Ledger",
    "ModelDiagnosis",
    "Panel",
    "PerUser",
    "Pools",
    "Quantities",
    "Reward",
    "Spread",
    "Suspect",
    "Texts",
    "best_of_n",
    "bootstrap_users",
    "combine_folds",
    "diagnose_arrays",
    "free_bound",
    "normal_growth",
    "pools_from_rows",
    "subset_variance",
    "wilson",
]
