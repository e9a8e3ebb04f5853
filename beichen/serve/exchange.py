"""What every route does with a request and its answer: a body of bounded size in, events or JSON out, an end when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from beichen.errors import BeichenError, RequestError
from beichen.serve.chat import as_event, fault_event
from beichen.serve.schemas.base import ErrorBody, ErrorDetail, Form, Sent, read_body
from beichen.serve.service import Service

Read = TypeVar("Read", bound=Form)
CLIENT_GONE = 499  # nobody reads this status; logs do


async def read_form(request: Request, form: type[Read], service: Service) -> Read:
    """The body, of at most ``max_body_bytes``, as a form; a fault names its field."""
    return read_body(form, await read_bytes(request, service))


async def read_bytes(request: Request, service: Service) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > service.limits.max_body_bytes:
            raise RequestError(f"the body is larger than {service.limits.max_body_bytes} bytes", code="body_too_large")
    return bytes(body)


async def answer_stream(texts: AsyncGenerator[str]) -> Response:
    """Server-sent events. What is refused before the first piece is an answer of its own, with its status."""
    first = await anext(texts)

    async def events() -> AsyncIterator[str]:
        try:
            yield as_event(first)
            async for text in texts:
                yield as_event(text)
        except BeichenError as fault:
            yield fault_event(str(fault.args[0]))
        finally:
            await texts.aclose()
        yield as_event("[DONE]")

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def answer_whole(request: Request, work: Coroutine[Any, Any, Sent]) -> Response:
    """The answer, unless the client goes away first."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return answer_json(task.result()) if task.done() else Response(status_code=CLIENT_GONE)
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answer_json(value: Sent, *, status: int = 200) -> Response:
    return Response(value.model_dump_json(exclude_none=isinstance(value, ErrorBody)), status_code=status, media_type="application/json")


def answer_fault(message: str, *, kind: str, code: str, status: int) -> Response:
    detail = ErrorDetail(message=message, type=kind, code=code)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status_code=status)
