"""The HTTP interface: OpenAI's paths over one service.

Rules kept: a body is read by ``serve/schemas``, so that every fault names its field in the form that OpenAI's clients know; a client that
goes away ends its work; nothing of a prompt is ever logged here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from beichen import __version__
from beichen.errors import BeichenError, OverloadError, RequestError
from beichen.serve.access import Keys
from beichen.serve.asking import chat_turn, completion_requests
from beichen.serve.chat import answer_events, as_event, fault_event, whole_answer
from beichen.serve.completions import completion_events, whole_completions
from beichen.serve.schemas.base import ErrorBody, ErrorDetail, Form, Sent, error_body, read_body
from beichen.serve.schemas.chat import ChatRequest
from beichen.serve.schemas.completions import (
    CompletionRequest,
    DetokenizeAnswer,
    DetokenizeRequest,
    ModelCard,
    ModelList,
    TokenizeAnswer,
    TokenizeRequest,
)
from beichen.serve.service import Service
from beichen.text.chat_requests import read_messages, read_tools

Read = TypeVar("Read", bound=Form)
Answered = TypeVar("Answered")
CLIENT_GONE = 499  # nobody reads this status; logs do
RETRY_SECONDS = 1


def create_app(service: Service, *, keys: Keys | None = None, allow_special: bool = False) -> FastAPI:
    """keys: who may ask. allow_special: whether raw completions may hold control tokens."""
    known = keys or Keys()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="Beichen", version=__version__, lifespan=lifespan)

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path not in ("/health", "/ready"):
            owner = known.owner(request.headers.get("authorization"))
            if owner is None:
                return _fault("a key is needed: Authorization: Bearer ...", kind="authentication_error", code="invalid_api_key", status=401)
            request.state.owner = owner
        return await proceed(request)

    @app.exception_handler(BeichenError)
    async def refuse(request: Request, fault: BeichenError) -> Response:
        if isinstance(fault, OverloadError):
            refused = _fault(str(fault.args[0]), kind="rate_limit_error", code="overloaded", status=429)
            refused.headers["Retry-After"] = str(RETRY_SECONDS)
            return refused
        status = 404 if isinstance(fault, RequestError) and fault.code == "model_not_found" else 400
        return _json(error_body(fault), status=status)

    async def read(request: Request, form: type[Read]) -> Read:
        """The body, of at most ``max_body_bytes``."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > service.limits.max_body_bytes:
                raise RequestError(f"the body is larger than {service.limits.max_body_bytes} bytes", code="body_too_large")
        return read_body(form, bytes(body))

    def check_model(name: str | None) -> None:
        if name not in (None, service.name):
            raise RequestError(f"there is no model '{name}'; this server has '{service.name}'", param="model", code="model_not_found")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = await read(request, ChatRequest)
        check_model(body.model)
        turn = await asyncio.to_thread(chat_turn, service.model, body, max_model_len=service.max_model_len, owner=request.state.owner)
        count, parallel = body.n or 1, body.parallel_tool_calls is not False
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return await _stream(answer_events(service, turn, count=count, parallel=parallel, with_usage=usage))
        return await _whole(request, whole_answer(service, turn, count=count, parallel=parallel))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await read(request, CompletionRequest)
        check_model(body.model)
        count = body.n or 1
        best = body.best_of or count
        ranked = body if best == count or body.logprobs is not None else body.model_copy(update={"logprobs": 0})
        limits = {"max_model_len": service.max_model_len, "owner": request.state.owner, "special": allow_special}
        asked = await asyncio.to_thread(completion_requests, service.model, ranked, **limits)
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return await _stream(completion_events(service, asked, count=count, echo=body.echo, with_usage=usage))
        tell = body.logprobs is not None
        return await _whole(request, whole_completions(service, asked, count=count, best=best, echo=body.echo, tell=tell))

    @app.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[ModelCard(id=service.name, created=service.created, max_model_len=service.max_model_len)])

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> ModelCard:
        check_model(name)
        return ModelCard(id=service.name, created=service.created, max_model_len=service.max_model_len)

    @app.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = await read(request, TokenizeRequest)
        check_model(body.model)
        tokenizer = service.model.tokenizer
        if body.allow_special and not allow_special:
            raise RequestError("this server takes names of control tokens as text", param="allow_special")
        if body.prompt is not None:
            ids = await asyncio.to_thread(tokenizer.encode, body.prompt, allow_special=body.allow_special)
        else:
            messages, tools = read_messages(body.messages), read_tools(body.tools)
            ids = (await asyncio.to_thread(tokenizer.render, messages, tools, body.add_generation_prompt)).ids
        names = [tokenizer.piece(token) for token in ids] if body.return_token_strs else None
        return _json(TokenizeAnswer(tokens=ids, count=len(ids), max_model_len=service.max_model_len, token_strs=names))

    @app.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read(request, DetokenizeRequest)
        check_model(body.model)
        return _json(DetokenizeAnswer(prompt=service.model.tokenizer.decode(body.tokens, skip_special=False)))

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if service.worker.alive else 503)

    @app.get("/ready")
    async def ready() -> Response:
        return Response(status_code=200 if service.worker.alive and service.worker.waiting < service.limits.max_waiting else 503)

    return app


async def _stream(texts: AsyncGenerator[str]) -> Response:
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


async def _whole(request: Request, work: Coroutine[Any, Any, Sent]) -> Response:
    """The answer, unless the client goes away first."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return _json(task.result()) if task.done() else Response(status_code=CLIENT_GONE)
    finally:
        for one in (task, watcher):
            one.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Sent, *, status: int = 200) -> Response:
    return Response(value.model_dump_json(exclude_none=isinstance(value, ErrorBody)), status_code=status, media_type="application/json")


def _fault(message: str, *, kind: str, code: str, status: int) -> JSONResponse:
    detail = ErrorDetail(message=message, type=kind, code=code)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status_code=status)
