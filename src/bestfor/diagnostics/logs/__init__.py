"""Draw Best-of-N curves from logs in which one answer of each pool was shown, with a known chance, and judged."""

from bestfor.diagnostics.logs.curves import (
    LogCurve,
    LogDifference,
    LoggedPools,
    log_curve,
    log_difference,
    logged_pools,
)
from bestfor.diagnostics.logs.diagnose import LogDiagnosis, diagnose_logs

__all__ = [
    "LogCurve",
    "LogDiagnosis",
    "LogDifference",
    "LoggedPools",
    "diagnose_logs",
    "log_curve",
    "log_difference",
    "logged_pools",
]
