"""What every route does with a request and its answer: a body in, events or JSON out, an end when the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from beichen.errors import BeichenError
from beichen.serve.chat import as_event
from beichen.serve.records import CLIENT_GONE, note_fault
from beichen.serve.refusals import fault_code, told
from beichen.serve.schemas.base import ErrorBody, Form, Sent, read_body

Read = TypeVar("Read", bound=Form)
Answered = TypeVar("Answered")
_SMALL = 1 << 16  # bytes of a body that are read in a few milliseconds


async def read_form(request: Request, form: type[Read]) -> Read:
    """The body as a form; a fault names its field."""
    body = await read_bytes(request)
    if len(body) < _SMALL:
        return read_body(form, body)
    return await asyncio.to_thread(read_body, form, body)  # up to a second, in which others are answered


async def read_bytes(request: Request) -> bytes:
    """The whole body; the gate bounds its size and its time."""
    return b"".join([part async for part in request.stream()])


async def answer_stream(request: Request, texts: AsyncGenerator[str]) -> Response:
    """Server-sent events, one for each text."""
    return await answer_pieces(
        request, texts, media_type="text/event-stream", write=as_event, failed=fault_event,
        last=as_event("[DONE]"),
    )  # fmt: skip


async def answer_pieces(
    request: Request, texts: AsyncGenerator[str], *, media_type: str, write: Callable[[str], str], failed: Callable[[BeichenError], str],
    last: str = "", headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """Texts as they come, each as ``write`` puts it. What is refused before the first one is an answer of its own, with its status; later
    the stream itself says what ``failed``."""
    first = await _unless_gone(request, anext(texts))
    if first is None:
        await texts.aclose()
        return Response(status_code=CLIENT_GONE)

    async def pieces() -> AsyncIterator[str]:
        try:
            yield write(first)
            async for text in texts:
                yield write(text)
        except BeichenError as fault:
            note_fault(fault_code(fault))
            yield failed(fault)
        finally:
            await texts.aclose()
        yield last

    usual = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(pieces(), media_type=media_type, headers={**usual, **(headers or {})})


async def answer_whole(request: Request, work: Coroutine[Any, Any, Sent]) -> Response:
    """The answer, unless the client goes away first."""
    answer = await _unless_gone(request, work)
    return Response(status_code=CLIENT_GONE) if answer is None else answer_json(answer)


async def _unless_gone(request: Request, work: Awaitable[Answered]) -> Answered | None:
    """What the work gives, or None where the client goes away first, which ends the work."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def fault_event(fault: BeichenError) -> str:
    """A fault after the stream has begun: the status line is gone, so the stream says it."""
    return as_event(ErrorBody(error=told(fault)).model_dump_json())


def answer_json(value: Sent, *, status: int = 200) -> Response:
    return Response(value.model_dump_json(), status_code=status, media_type="application/json")
