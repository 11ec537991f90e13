"""Diagnose whether Best-of-N pays: exact curves, quantities, laws and intervals on plain arrays."""

from bestfor.diagnostics.beyond.budget import (
    Beliefs,
    FixedN,
    Replay,
    StoppingRule,
    beliefs_from,
    best_fixed_n,
    best_fixed_n_by_law,
    expected_improvement,
    replay,
)
from bestfor.diagnostics.beyond.extrapolate import Extrapolation, extrapolate
from bestfor.diagnostics.beyond.mbr import mbr_curve
from bestfor.diagnostics.beyond.outlook import Outlook
from bestfor.diagnostics.beyond.tokens import TokenCurve, best_by_tokens
from bestfor.diagnostics.calibration import Calibration, Coverage, Reliability, calibrate
from bestfor.diagnostics.curves.best_of_n import best_of_n, subset_variance
from bestfor.diagnostics.curves.rules import soft_best_of_n
from bestfor.diagnostics.curves.subsets import Chooser, PlaceChooser, RuleCurve, Sampling, place_curve, rule_curve
from bestfor.diagnostics.diagnose import Diagnosis, Settings, diagnose_arrays
from bestfor.diagnostics.folds import combine_folds
from bestfor.diagnostics.intervals.clustered import Panel, Resampling, Spread, wilson
from bestfor.diagnostics.intervals.influence import Influences, Texts
from bestfor.diagnostics.quantities.laws import Ledger, free_bound, normal_growth
from bestfor.diagnostics.quantities.mixture import Corrected, negative_by_chance
from bestfor.diagnostics.result import (
    BestN,
    Comparison,
    Curve,
    FoldInfluences,
    ModelDiagnosis,
    Needed,
    OtherRule,
    PerUser,
    Quantities,
    Suspect,
)
from bestfor.diagnostics.table.pools import Dropped, Pools, Reward, pools_from_rows
from bestfor.moved import renamed
from bestfor.selection import Rule, named_rule

__all__ = [
    "Beliefs",
    "BestN",
    "Calibration",
    "Chooser",
    "Comparison",
    "Corrected",
    "Coverage",
    "Curve",
    "Diagnosis",
    "Dropped",
    "Extrapolation",
    "FixedN",
    "FoldInfluences",
    "Influences",
    "Ledger",
    "ModelDiagnosis",
    "Needed",
    "OtherRule",
    "Outlook",
    "Panel",
    "PerUser",
    "PlaceChooser",
    "Pools",
    "Quantities",
    "Reliability",
    "Replay",
    "Resampling",
    "Reward",
    "Rule",
    "RuleCurve",
    "Sampling",
    "Settings",
    "Spread",
    "StoppingRule",
    "Suspect",
    "Texts",
    "TokenCurve",
    "beliefs_from",
    "best_by_tokens",
    "best_fixed_n",
    "best_fixed_n_by_law",
    "best_of_n",
    "calibrate",
    "combine_folds",
    "diagnose_arrays",
    "expected_improvement",
    "extrapolate",
    "free_bound",
    "mbr_curve",
    "named_rule",
    "negative_by_chance",
    "normal_growth",
    "place_curve",
    "pools_from_rows",
    "replay",
    "rule_curve",
    "soft_best_of_n",
    "subset_variance",
    "wilson",
]

__getattr__ = renamed(__name__, {"Evidence": "FoldInfluences"})
