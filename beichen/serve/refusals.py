"""What a fault is to a client: its status, its words in OpenAI's form, and when to come back."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse

from beichen.errors import BeichenError, OverloadError, QueueTimeError, RequestError, ShutdownError, TimeLimitError, nearest
from beichen.serve.records import note_fault
from beichen.serve.schemas.base import ErrorBody, ErrorDetail, error_body

RETRY_SECONDS = {429: 1, 503: 10}  # a moment for a place in the queue; longer for a server to come back
_OTHER_PATHS = {"/responses": "/v1/chat/completions"}  # another interface of OpenAI's to the same end
_STATUS = {"model_not_found": 404, "body_timeout": 408, "body_too_large": 413}


def refusal(fault: BeichenError) -> Response:
    """The whole response. What it says is noted in the request's record."""
    return _response(told(fault), _kind(fault)[2])


def told(fault: BeichenError) -> ErrorDetail:
    """What a client reads of a fault, whole answers and streams alike."""
    kind, code, _ = _kind(fault)
    return error_body(fault).error.model_copy(update={"type": kind, "code": code})


def fault_code(fault: BeichenError) -> str:
    """One word for a fault, where no status can say it any more."""
    return _kind(fault)[1]


def refuse_key(given: str | None) -> Response:
    """given: the ``Authorization`` header, of which nothing is repeated."""
    words = "a key is needed: Authorization: Bearer KEY"
    if given is not None:
        scheme, _, key = given.strip().partition(" ")
        bearer = scheme.lower() == "bearer" and key.strip()
        words = "this key is not known here" if bearer else "this is not how a key is shown; expected: Authorization: Bearer KEY"
    refused = _response(ErrorDetail(message=words, type="authentication_error", code="invalid_api_key"), 401)
    refused.headers["WWW-Authenticate"] = "Bearer"
    return refused


def refuse_unforeseen() -> Response:
    """For a fault of the server's own, of which a client is told no more."""
    return _response(ErrorDetail(message="the server failed; its log says more", type="server_error", code="internal_error"), 500)


def refuse_way(request: Request, fault: HTTPException, paths: Sequence[str]) -> Response:
    """For a path that is not here, or not by this method. paths: those that are here."""
    words = HTTPStatus(fault.status_code).phrase.lower()
    told = f"{request.method} {request.url.path}: {words}{_way(request, paths) if fault.status_code == 404 else ''}"
    response = _response(ErrorDetail(message=told, type="invalid_request_error", code=words.replace(" ", "_")), fault.status_code)
    response.headers.update(fault.headers or {})
    return response


def _way(request: Request, paths: Sequence[str]) -> str:
    """In brackets, the path that was meant, or where all of them are."""
    root = request.scope.get("root_path", "")
    asked = request.url.path.removeprefix(root)
    meant = [path for path in (f"/v1{asked}", _OTHER_PATHS.get(asked.removeprefix("/v1"))) if path in paths]
    if meant:
        return f" (did you mean '{root}{meant[0]}'?)"
    return (
        nearest(f"{root}{asked}", [f"{root}{path}" for path in paths if path != "/"])
        or f" ({root}/openapi.json names the paths that there are)"
    )


def _kind(fault: BeichenError) -> tuple[str, str, int]:
    """The type and code of OpenAI's form, and the status."""
    if isinstance(fault, ShutdownError):
        return "server_error", "shutting_down", 503
    if isinstance(fault, QueueTimeError):
        return "rate_limit_error", "queue_timeout", 429
    if isinstance(fault, OverloadError):
        return "rate_limit_error", "overloaded", 429
    if isinstance(fault, TimeLimitError):
        return "server_error", "timeout", 504
    if type(fault) is BeichenError:  # nobody's request: the engine itself
        return "server_error", "engine_failed", 500
    code = (fault.code if isinstance(fault, RequestError) else None) or "invalid_value"
    return "invalid_request_error", code, _STATUS.get(code, 400)


def _response(detail: ErrorDetail, status: int) -> Response:
    note_fault(detail.code or detail.type)
    headers = {"Retry-After": str(RETRY_SECONDS[status])} if status in RETRY_SECONDS else None
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)
