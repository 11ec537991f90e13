"""Tables whose right verdict is known; they lie beside the repository and are skipped where absent."""

import csv
from pathlib import Path

import pytest

CASES = Path(__file__).parents[3] / "shared/cases/verdicts"


def case(name):
    """Read one table as columns of strings."""
    path = CASES / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"needs {path}")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows] for key in rows[0]}
