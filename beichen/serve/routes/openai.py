"""OpenAI's paths: chat and text completions, whole or streamed, and the models that there are."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from beichen.serve.asking import chat_turn, completion_requests
from beichen.serve.chat import answer_events, whole_answer
from beichen.serve.completions import Wanted, completion_events, whole_completions
from beichen.serve.description import asks, faults, names_model, or_events, told
from beichen.serve.exchange import answer_stream, answer_whole, read_form
from beichen.serve.schemas.chat import ChatAnswer, ChatChunk, ChatRequest
from beichen.serve.schemas.completions import CompletionAnswer, CompletionRequest, ModelCard, ModelList
from beichen.serve.service import Service


def routes(service: Service, *, allow_special: bool) -> APIRouter:
    """allow_special: whether raw completions may hold control tokens."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    usual = faults(400, 404, 504)

    @router.post(
        "/chat/completions", response_model=ChatAnswer, responses=or_events(ChatChunk) | usual, openapi_extra=asks(ChatRequest, service)
    )
    async def chat(request: Request) -> Response:
        """The next turn of a dialogue, whole or streamed."""
        body = await read_form(request, ChatRequest)
        model = service.model_named(body.model)
        turn = await asyncio.to_thread(chat_turn, model, body, max_model_len=service.max_model_len, owner=request.state.owner)
        count, parallel = body.n or 1, body.parallel_tool_calls is not False
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return await answer_stream(request, answer_events(service, turn, count=count, parallel=parallel, with_usage=usage))
        return await answer_whole(request, whole_answer(service, turn, count=count, parallel=parallel))

    @router.post(
        "/completions", response_model=CompletionAnswer, responses=or_events(CompletionAnswer) | usual,
        openapi_extra=asks(CompletionRequest, service),
    )  # fmt: skip
    async def completions(request: Request) -> Response:
        """Texts or ids continued, whole or streamed."""
        body = await read_form(request, CompletionRequest)
        model = service.model_named(body.model)
        count = body.n or 1
        nothing_new = body.max_tokens == 0
        best = count if nothing_new else body.best_of or count
        ranked = body if best == count or body.logprobs is not None else body.model_copy(update={"logprobs": 0})
        wanted = Wanted(count=count, best=best, echo=body.echo, tell=body.logprobs is not None, nothing_new=nothing_new)
        limits = {"max_model_len": service.max_model_len, "owner": request.state.owner, "special": allow_special}
        asked = await asyncio.to_thread(completion_requests, model, ranked, **limits)
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            return await answer_stream(request, completion_events(service, asked, wanted, with_usage=usage))
        return await answer_whole(request, whole_completions(service, asked, wanted))

    @router.get("/models")
    async def models() -> ModelList:
        """The model, and its adapters."""
        return ModelList(data=[_card(service, name) for name in service.names])

    @router.get("/models/{name:path}", responses=told(404), openapi_extra=names_model(service))
    async def model(request: Request) -> ModelCard:
        """One model."""
        name = request.path_params["name"]
        service.model_named(name)
        return _card(service, name)

    return router


def _card(service: Service, name: str) -> ModelCard:
    base = None if name == service.name else service.name
    return ModelCard(id=name, created=service.created, root=base, parent=base, max_model_len=service.max_model_len)
