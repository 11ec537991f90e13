"""A diagnosis as a few lines of text."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from bestfor.diagnostics.advice import calibrated
from bestfor.types import Estimate

if TYPE_CHECKING:
    from bestfor.diagnostics.beyond.outlook import Outlook
    from bestfor.diagnostics.result import Curve, Diagnosis, ModelDiagnosis

WIDTH = 100


def summary(diagnosis: Diagnosis) -> str:
    """The headline, a table of curves, the quantities and the findings, at most 100 characters wide."""
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


def _count(diagnosis: Diagnosis) -> str:
    folds = f", mean of {len(diagnosis.folds)} folds" if diagnosis.folds else ""
    return f"{diagnosis.users} users, {diagnosis.queries} queries, {diagnosis.candidates} candidates{folds}"


def _quantities(model: ModelDiagnosis) -> list[str]:
    q, ledger = model.quantities, model.ledger
    captured = model.captured.at(ledger.n)
    best = ", ".join(f"{one.n} at {one.cost_in_utility_units:g}" for one in model.best_n)
    lines = [
        f"  captured at N={ledger.n}: {_estimate(captured)}{_beyond_one(captured)}",
        f"  alpha {_estimate(q.alpha)}   beta {_estimate(q.beta)}   rho {_estimate(q.rho)}",
    ]
    if q.corrected is not None:
        c = q.corrected
        lines.append(f"  without noise: beta {c.beta:.3f}  rho+ {c.rho_plus:.3f}  rho- {c.rho_minus:.3f}")
    lines.append(f"  law {ledger.law:.3f} -> observed {ledger.observed:.3f} at N={ledger.n}")
    lines.append(f"  N that pays where each doubling costs something: {best}")
    for other in model.rules:
        utility, difference = _estimate(other.utility.at(ledger.n)), _estimate(other.difference.at(ledger.n))
        lines.append(f"  rule {other.rule} at N={ledger.n}: utility {utility}, {difference} over the highest reward")
    if model.outlook is not None:
        lines += _outlook(model.outlook)
    if model.calibration is not None:
        lines += _wrapped(f"std: {calibrated(model.calibration)}", "  ")
    return lines


def _outlook(outlook: Outlook) -> list[str]:
    noisy = [(n, sd) for n, sd in zip(outlook.three_draw.n.tolist(), outlook.three_draw.sd.tolist(), strict=True) if sd]
    fixed = ", ".join(f"{one.n} at {one.cost_per_candidate:g}" for one in outlook.best_fixed_n)
    lines = [f"  N that pays where each candidate costs something: {fixed}"]
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
