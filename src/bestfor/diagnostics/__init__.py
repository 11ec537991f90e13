"""Whether Best-of-N pays: exact curves, quantities, laws and intervals on plain arrays."""

from bestfor.diagnostics.bootstrap import Panel, Spread, wilson
from bestfor.diagnostics.calibration import Calibration, Coverage, Reliability, calibrate
from bestfor.diagnostics.combine import combine_folds
from bestfor.diagnostics.cost import FixedN, best_fixed_n, best_fixed_n_by_law
from bestfor.diagnostics.curves import best_of_n, subset_variance
from bestfor.diagnostics.diagnosis import diagnose_arrays
from bestfor.diagnostics.extrapolate import Extrapolation, extrapolate
from bestfor.diagnostics.influence import Influences, Texts
from bestfor.diagnostics.laws import Ledger, free_bound, normal_growth
from bestfor.diagnostics.mbr import mbr_curve
from bestfor.diagnostics.mixture import Corrected, negative_by_chance
from bestfor.diagnostics.named_rules import named_rule
from bestfor.diagnostics.outlook import Outlook
from bestfor.diagnostics.pools import Dropped, Pools, Reward, pools_from_rows
from bestfor.diagnostics.resampling import Resampling
from bestfor.diagnostics.results import (
    BestN,
    Comparison,
    Curve,
    Diagnosis,
    Evidence,
    ModelDiagnosis,
    Needed,
    OtherRule,
    PerUser,
    Quantities,
    Suspect,
)
from bestfor.diagnostics.rule_curves import place_curve, rule_curve
from bestfor.diagnostics.rules import Rule
from bestfor.diagnostics.settings import Settings
from bestfor.diagnostics.soft import soft_best_of_n
from bestfor.diagnostics.stopping import Beliefs, Replay, StoppingRule, beliefs_from, expected_improvement, replay
from bestfor.diagnostics.subsets import Chooser, PlaceChooser, RuleCurve, Sampling
from bestfor.diagnostics.tokens import TokenCurve, best_by_tokens

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
    "Evidence",
    "Extrapolation",
    "FixedN",
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
