import importlib

import pytest

from bestfor import diagnostics

OLD = {
    "diagnostics": ("Evidence",),
    "diagnostics.result": ("Evidence",),
    "diagnostics.beyond": ("Beyond", "ModelBeyond"),
    "diagnostics.beyond.budget": ("Budget", "Personal"),
    "diagnostics.beyond.outlook": ("Known", "Precision", "Reach", "Soft", "Step", "Stopped"),
    "diagnostics.beyond.sample": ("Chosen",),
    "diagnostics.blocks": ("Sharing", "Study"),
    "diagnostics.calibration": ("FirstLook", "Layout", "Sums", "Tally"),
    "diagnostics.diagnose": ("Frame", "Measured"),
    "diagnostics.evidence": ("Base", "Found", "Ranked"),
    "diagnostics.intervals.clustered": ("Form",),
    "diagnostics.quantities.queries": ("Sums", "Within"),
    "diagnostics.table.rows": ("Rows",),
}


def test_everything_exported_is_there_and_sorted():
    assert list(diagnostics.__all__) == sorted(diagnostics.__all__)
    assert all(hasattr(diagnostics, name) for name in diagnostics.__all__)


@pytest.mark.parametrize("module", sorted(OLD))
def test_classes_by_their_old_names_are_found_and_warn(module):
    here = importlib.import_module(f"bestfor.{module}")
    for name in OLD[module]:
        with pytest.warns(DeprecationWarning, match=f"{name} is now "):
            assert getattr(here, name) is not None
