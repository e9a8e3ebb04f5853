"""The paths of the originals' own services, for those who have clients of them (``beichen serve --original-paths``): TeleChat's
``/telechat/gptDialog/v2`` (text as it grows) and ``/v4`` (JSON), NDL's ``/chat``.

Rules: fields, ranges, codes and the order of checks are those of ``serve/schemas/originals.py``; TeleChat's failures have status 200, as
there. What those services did not know (a missing key, a body that is too large, a full queue) is told as on every other path.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from fastapi import Request as Asked

from beichen.errors import BeichenError, OverloadError, RequestError
from beichen.inference.api import Request
from beichen.serve.description import Answers, asks, asks_json, faults
from beichen.serve.exchange import answer_json, answer_pieces, answer_whole, read_bytes, read_form
from beichen.serve.original_requests import ndl_request, telechat_request
from beichen.serve.records import note_fault
from beichen.serve.schemas.base import Sent
from beichen.serve.schemas.originals import (
    FAILED,
    TELECHAT_BODY,
    WORDS,
    NdlAnswer,
    NdlRequest,
    TeleChatAnswer,
    TeleChatFailure,
    ndl_answer,
    read_telechat,
    telechat_failure,
)
from beichen.serve.service import Service

NEVER_RUN = {"Content-Security-Policy": "sandbox; default-src 'none'"}  # the media type says HTML, as the original's does; it is plain text


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["originals"])
    limits = {"max_model_len": service.max_model_len}
    text: Answers = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}

    async def telechat(asked: Asked) -> Request:
        """Raises RequestError with one of the service's codes."""
        read = read_telechat(_parsed(await read_bytes(asked)))
        return await asyncio.to_thread(telechat_request, service.model, read, owner=asked.state.owner, **limits)

    @router.post(
        "/telechat/gptDialog/v2", response_model=TeleChatFailure, responses=text | faults(), openapi_extra=asks_json(TELECHAT_BODY),
        response_description="the text of the answer as it grows, or a failure",
    )  # fmt: skip
    async def grows(asked: Asked) -> Response:
        """TeleChat's service: the answer to a dialogue, as raw text that grows."""
        try:
            pieces = _texts(service, await telechat(asked))
            return await answer_pieces(
                asked,
                pieces,
                media_type="text/html",
                write=str,
                failed=lambda _: telechat_failure(FAILED).model_dump_json(),
                headers=NEVER_RUN,
            )
        except BeichenError as fault:
            return answer_json(_failure_of(fault))

    @router.post(
        "/telechat/gptDialog/v4",
        response_model=TeleChatAnswer | TeleChatFailure,
        responses=faults(),
        openapi_extra=asks_json(TELECHAT_BODY),
    )
    async def whole(asked: Asked) -> Response:
        """TeleChat's service: the answer to a dialogue, whole."""
        try:
            return await answer_whole(asked, _telechat_answer(service, await telechat(asked)))
        except BeichenError as fault:
            return answer_json(_failure_of(fault))

    @router.post("/chat", response_model=NdlAnswer, responses=faults(400, 504), openapi_extra=asks(NdlRequest, service))
    async def chat(asked: Asked) -> Response:
        """NDL's service: the answer to one question."""
        body = await read_form(asked, NdlRequest)
        request = await asyncio.to_thread(ndl_request, service.model, body, owner=asked.state.owner, **limits)
        return await answer_whole(asked, _ndl_answer(service, request))

    return router


async def _texts(service: Service, request: Request) -> AsyncGenerator[str]:
    """Pieces of whole characters; one that is empty where the answer is."""
    said = False
    async for _, delta in service.answer([request]):
        if delta.text or (delta.finish_reason is not None and not said):
            said = True
            yield delta.text


async def _telechat_answer(service: Service, request: Request) -> Sent:
    return TeleChatAnswer(content="".join([text async for text in _texts(service, request)]))


async def _ndl_answer(service: Service, request: Request) -> Sent:
    return ndl_answer("".join([text async for text in _texts(service, request)]), datetime.now())


def _failure_of(fault: BeichenError) -> TeleChatFailure:
    """Raises what is no failure of this request: a full queue, a body that did not come in."""
    code = fault.code if isinstance(fault, RequestError) else None
    if isinstance(fault, OverloadError) or (code is not None and code not in WORDS):
        raise fault
    note_fault(code or FAILED)  # the status will not say it
    return telechat_failure(code or FAILED)


def _parsed(body: bytes) -> Any:
    """A body that is no JSON lacks everything."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
