from bestfor import diagnostics


def test_exports_are_sorted_and_there():
    assert diagnostics.__all__ == sorted(diagnostics.__all__)
    assert all(hasattr(diagnostics, name) for name in diagnostics.__all__)
