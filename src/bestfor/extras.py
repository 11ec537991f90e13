"""Import optional dependencies, or name the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from bestfor.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise an error with the command that installs it.

    Args:
        module: the import name, for example ``"torch"``.
        extra: the extra of bestfor that brings it, for example ``"models"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        message = f"'{module}' is not installed; install it with: pip install 'bestfor[{extra}]'"
        raise MissingExtraError(message) from error
