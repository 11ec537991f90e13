"""Classify what goes wrong with a request: one line that tells it, and if and when to try again."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bestfor.errors import BestforError

_RETRIED = frozenset({408, 409, 425, 429})
_HOPELESS = frozenset({401, 402, 403, 404, 405})
_WORDINGS = ("error", "message", "detail", "details", "msg", "errors", "error_description")
_HINTS = {
    401: " (is the right key in the environment variable that 'key_env' names?)",
    404: " (is 'base_url' the address up to /v1, and is 'model' the name that the server knows?)",
    405: " (is 'base_url' the address up to /v1?)",
}
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

    def __init__(self, message: str, *, status: int, parameter: str, reason: str, hopeless: bool = False) -> None:
        super().__init__(message, status=status, hopeless=hopeless)
        self.parameter, self.reason = parameter, reason

    @property
    def lasting(self) -> bool:
        """True where this request will be refused whenever it is made, and others need not be."""
        return not self.hopeless and self.status not in _HOPELESS - {403}


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
        tokens: of the prompt and of the answer, where the server states them though it failed.
    """

    reason: str
    status: int = 0
    parameter: str = ""
    again: bool = True
    after: float | None = None
    hopeless: bool = False
    tokens: tuple[int, int] | None = None

    def error(self, shown: str, attempts: int) -> EndpointError:
        """Build the error of the failure.

        Args:
            shown: the server's address as it may be shown.
            attempts: how often it was tried.
        """
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        message = f"endpoint {shown}: {self.reason}{tried}"
        if self.again or not self.status or (self.hopeless and self.status != 403):
            return EndpointError(message, hopeless=self.hopeless, status=self.status)
        named = {"parameter": self.parameter, "reason": self.reason}
        return RefusedError(message, status=self.status, hopeless=self.hopeless, **named)


@dataclass(frozen=True)
class ErrorWords:
    """Words of a server about an error, whatever form they have.

    Attributes:
        text: its words.
        parameter: the parameter that it names.
        code: its own name of the error.
    """

    text: str = ""
    parameter: str = ""
    code: str = ""


def said_of(body: object, depth: int = 8) -> ErrorWords:
    """Unwrap what a server says of an error: texts, objects, lists of them, JSON within a text.

    ``{"error": {"message": ...}}``, ``{"detail": [{"loc": ["body", "n"], "msg": ...}]}`` and ``[{"error": ...}]`` were
    met, and one within the other.

    Args:
        body: as JSON, or text.
        depth: how far it is unwrapped.
    """
    if isinstance(body, str) and body.lstrip()[:1] in ("{", "[") and depth:
        with contextlib.suppress(ValueError, RecursionError):
            return said_of(json.loads(body), depth - 1)
    if isinstance(body, list) and depth:
        each = [one for one in (said_of(inner, depth - 1) for inner in body) if one.text]
        first = each[0] if each else ErrorWords()
        return ErrorWords("; ".join(one.text for one in each), first.parameter, first.code)
    if not isinstance(body, Mapping) or not depth:
        return ErrorWords("" if body is None or isinstance(body, list | Mapping) else str(body))
    place = body.get("loc")
    at = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    inner = said_of(next((body[name] for name in _WORDINGS if body.get(name)), None), depth - 1)
    text = inner.text
    with contextlib.suppress(RecursionError):
        text = text or json.dumps(dict(body), ensure_ascii=False, default=str)
    parameter = str(body.get("param") or at or inner.parameter)
    code = inner.code or str(body.get("code") or body.get("type") or "")
    return ErrorWords(f"{at}: {text}" if at else text, parameter, code)


def of_status(status: int, headers: Mapping[str, str], said: ErrorWords) -> Failure:
    """Classify an HTTP error.

    Args:
        status: the HTTP status.
        headers: of the answer, names in lower case.
        said: the server's words, without secrets.
    """
    hopeless = status in _HOPELESS or said.code in _SPENT
    again = not hopeless and (status in _RETRIED or status >= 500)
    if headers.get("x-should-retry") == "false":
        again = False
    reason = f"HTTP {status}{': ' + said.text if said.text else ''}{_HINTS.get(status, '')}"
    return Failure(reason, status, said.parameter, again, retry_after(headers), hopeless)


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
