"""Classify what goes wrong with a request: one line that tells it, and if and when to try again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bestfor.errors import BestforError

_RETRIED = frozenset({408, 409, 425, 429})
_HOPELESS = frozenset({401, 402, 403, 404, 405})
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


class EndpointError(BestforError):
    """Error of a request that was not answered.

    Attributes:
        hopeless: whether other requests to this server will fare no better.
        status: the HTTP status, 0 where there is no whole answer.
    """

    def __init__(self, message: str, *, hopeless: bool = False, status: int = 0) -> None:
        super().__init__(message)
        self.hopeless, self.status = hopeless, status


class RefusedError(EndpointError):
    """Error of a request that the server will not take as it is.

    Attributes:
        parameter: the parameter that the server names, "" where it names none.
        reason: the server's own words, without secrets.
    """

    def __init__(self, message: str, *, status: int, parameter: str, reason: str) -> None:
        super().__init__(message, status=status)
        self.parameter, self.reason = parameter, reason


class BudgetSpentError(EndpointError):
    """Error of a request that might overrun the budget.

    Attributes:
        limit: the limit that it might break.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(f"the budget of {limit} is spent; raise it and run again to go on", hopeless=True)
        self.limit = limit


@dataclass(frozen=True)
class Failure:
    """One attempt that failed.

    Attributes:
        reason: what happened, without secrets.
        status: the HTTP status, 0 where there is no whole answer.
        parameter: the parameter that the server names.
        again: whether to try again.
        after: seconds that the server asks to wait, None where it does not say.
        hopeless: whether other requests will fare no better.
    """

    reason: str
    status: int = 0
    parameter: str = ""
    again: bool = True
    after: float | None = None
    hopeless: bool = False

    def error(self, shown: str, attempts: int) -> EndpointError:
        """Build the error of the failure.

        Args:
            shown: the server's address as it may be shown.
            attempts: how often it was tried.
        """
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        message = f"endpoint {shown}: {self.reason}{tried}"
        if self.again or self.hopeless or not self.status:
            return EndpointError(message, hopeless=self.hopeless, status=self.status)
        return RefusedError(message, status=self.status, parameter=self.parameter, reason=self.reason)


def of_status(status: int, headers: Mapping[str, str], body: object, text: str) -> Failure:
    """Classify an HTTP error.

    Args:
        status: the HTTP status.
        headers: of the answer, names in lower case.
        body: its JSON, or what there is.
        text: the server's words, without secrets.
    """
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    said = inner if isinstance(inner, Mapping) else {}
    code = str(said.get("code") or said.get("type") or "")
    hopeless = status in _HOPELESS or code in _SPENT
    again = not hopeless and (status in _RETRIED or status >= 500)
    if headers.get("x-should-retry") == "false":
        again = False
    hint = " (is the right key in the environment variable that 'key_env' names?)" if status == 401 else ""
    reason = f"HTTP {status}{': ' + text if text else ''}{hint}"
    return Failure(reason, status, str(said.get("param") or ""), again, retry_after(headers), hopeless)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as an HTTP date.

    A date is counted from the server's own ``date`` where it gives one: clocks differ.

    Returns:
        Seconds, 0 or more; None where nothing is asked or it cannot be read.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "nan")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    until, now = _date(headers.get("retry-after", "")), _date(headers.get("date", "")) or datetime.now(UTC)
    return None if until is None else max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
