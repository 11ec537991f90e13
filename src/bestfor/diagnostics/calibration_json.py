"""A calibration as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bestfor.diagnostics.advice import calibrated

if TYPE_CHECKING:
    from bestfor.diagnostics.calibration import Calibration
    from bestfor.types import Estimate


def calibration_json(calibration: Calibration | None) -> dict[str, Any] | None:
    """A calibration as docs/diagnosis.md lays it out, arrays and NaN still in it."""
    if calibration is None:
        return None
    told: dict[str, Any] = {}
    for name in ("temperature", "ence", "nll", "gain", "tempered_gain"):
        one: Estimate = getattr(calibration, name)
        told |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return {
        "candidates": calibration.candidates,
        "users": calibration.users,
        "left_out": calibration.left_out,
        "values": calibration.values,
        **told,
        "ence_by_noise": calibration.ence_by_noise,
        "nll_constant": calibration.nll_constant,
        "coverage": [
            {"level": one.level, "share": one.share.value, "low": one.share.low, "high": one.share.high}
            for one in calibration.coverage
        ],
        "reliability": asdict(calibration.reliability),
        "pit": calibration.pit,
        "verdict": calibrated(calibration),
    }
