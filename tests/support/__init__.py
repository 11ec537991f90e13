"""Help tests of several folders: servers that follow a script, tiny models, processes that can be killed."""

import importlib
import importlib.util

import pytest


class Later:
    """A module that is imported when a name of it is first looked up, so that collecting tests stays cheap."""

    __slots__ = ("_name",)

    def __init__(self, name):
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name):
        if name != "__version__" and name.startswith(
            ("__", "_mock")
        ):  # pytest asks whatever a file holds for marks and mocks
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)

    def __setattr__(self, name, value):
        """Change the module itself, as ``monkeypatch`` does."""
        setattr(importlib.import_module(self._name), name, value)

    @property
    def __dict__(self):
        return vars(importlib.import_module(self._name))


def needs(*packages):
    """Skip the tests of a file where a package is not installed, without importing it."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"could not import '{package}'", allow_module_level=True)


def later(name, *needed):
    """A module to be imported when it is first used; the tests of this file are skipped where it cannot be.

    Args:
        name: the module.
        needed: packages without which it cannot be imported, its own by default.
    """
    needs(*(needed or (name.split(".")[0],)))
    return Later(name)
