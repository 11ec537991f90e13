"""Help tests of several folders: servers that follow a script, tiny models, processes that can be killed."""

import importlib
import importlib.util

import pytest


class Later:
    """A module that is imported when a name of it is first looked up, so that collecting tests stays cheap."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        return getattr(importlib.import_module(self._name), name)


def later(name, *needed):
    """A module to be imported when it is first used; the tests of this file are skipped where it cannot be.

    Args:
        name: the module.
        needed: packages without which it cannot be imported, its own by default.
    """
    for package in needed or (name.split(".")[0],):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"could not import '{package}'", allow_module_level=True)
    return Later(name)
