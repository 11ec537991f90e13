"""Define errors that name the boundary, the values and the fix, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BestforError(Exception):
    """Error of a run that could not be finished; the command line exits with ``exit_code``."""

    exit_code: int = 1


class InputError(BestforError):
    """Error in arguments or input: one line that says where, what was found, and what was expected."""

    exit_code = 2

    def __init__(self, where: str, found: str, expected: str) -> None:
        self.where, self.found, self.expected = where, found, expected
        super().__init__(f"{where}: found {found}; expected {expected}")


class MissingExtraError(BestforError):
    """Error of an optional dependency that is not installed; the message holds the command that installs it."""

    exit_code = 2


def nearest(word: str, known: Iterable[str]) -> str:
    """Phrase the expectation for an unknown name: the nearest known one, or all of them.

    Args:
        word: what was found.
        known: the names that would have been accepted.

    Returns:
        ``"'min_fit' (did you mean it?)"`` where one is close, else ``"one of a, b, c"``.
    """
    names = list(known)
    close = closest(word, names)
    if close is not None:
        return f"'{close}' (did you mean it?)"
    return "one of " + ", ".join(names) if names else "nothing here"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Find the known name that is most like a word, None where none is close."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)
