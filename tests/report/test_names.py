import importlib

import pytest

OLD = {
    "charts.draw": ("Size",),
    "page": ("Beyond", "Calibration", "Panel"),
}


@pytest.mark.parametrize("module", sorted(OLD))
def test_classes_by_their_old_names_are_found_and_warn(module):
    here = importlib.import_module(f"bestfor.report.{module}")
    for name in OLD[module]:
        with pytest.warns(DeprecationWarning, match=f"{name} is now "):
            assert getattr(here, name) is not None
