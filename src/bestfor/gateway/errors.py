"""Word every error in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from bestfor.errors import BestforError, InputError
from bestfor.serving.journal import JournalError

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""OpenAI's name of an error by its status; others below 500 are ``invalid_request_error``."""

FIELDS = {
    "answer": "answer_id",
    "label": "kind",
    "rating": "value",
    "thumb": "value",
    "prefer": "value",
    "kept or dismissed": "value",
    "edit": "text",
    "comment": "text",
}
"""Names of a request's fields for the places that the library's errors name."""


class ApiError(BestforError):
    """Error of a request.

    Args:
        status: the HTTP status.
        message: one line.
        param: the field that is wrong, None where there is none.
        code: OpenAI's code, or one of ours.
        headers: to be sent with it.
        kind: OpenAI's type; by the status where empty.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = headers or {}
        self.kind = kind or TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")

    @property
    def body(self) -> dict[str, Any]:
        """Body that is sent."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Make the response."""
        return JSONResponse(self.body, self.status, self.headers)


def wrong(param: str, message: str, *, status: int = 400, code: str | None = None) -> ApiError:
    """Make the error of a field."""
    return ApiError(status, f"{param}: {message}", param=param, code=code)


def of_error(error: Exception) -> ApiError:
    """Turn any error into one that can be sent; what is not known to be harmless is not repeated."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        field = FIELDS.get(error.where, error.where)
        known = error.where == "answer" and "not in the journal" in error.found
        taken = "somebody else" in error.found
        status = 404 if known else 409 if taken else 400
        return ApiError(status, f"{field}: found {error.found}; expected {error.expected}", param=field)
    if isinstance(error, JournalError):
        return ApiError(503, "the journal cannot be written or read now; nothing of this call was stored")
    return ApiError(500, "an error within the gateway; its log says which")
