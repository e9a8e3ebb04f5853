"""``/tokenize`` and ``/detokenize``: a text or a dialogue as the model gets it, and back."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from beichen.errors import RequestError
from beichen.serve.asking import no_control_tokens, rendered
from beichen.serve.description import asks, faults
from beichen.serve.exchange import answer_json, read_form
from beichen.serve.schemas.completions import DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest
from beichen.serve.service import Service
from beichen.text.chat_requests import read_tools


def routes(service: Service, *, allow_special: bool) -> APIRouter:
    """allow_special: whether a text may hold control tokens."""
    router = APIRouter(tags=["tokens"])
    usual = faults(400, 404)

    @router.post("/tokenize", response_model=TokenizeAnswer, responses=usual, openapi_extra=asks(TokenizeRequest, service))
    async def tokenize(request: Request) -> Response:
        """The ids of a text, or of a dialogue as the model gets it."""
        body = await read_form(request, TokenizeRequest)
        tokenizer = service.model_named(body.model).tokenizer
        if body.allow_special and not allow_special:
            raise no_control_tokens()
        if body.prompt is not None:
            ids = await asyncio.to_thread(tokenizer.encode, body.prompt, allow_special=body.allow_special)
        else:
            tools = read_tools(body.tools)
            ids = await asyncio.to_thread(rendered, tokenizer, body.messages, tools=tools, prompt=body.add_generation_prompt)
        names = [tokenizer.piece(token) for token in ids] if body.return_token_strs else None
        return answer_json(TokenizeAnswer(tokens=ids, count=len(ids), max_model_len=service.max_model_len, token_strs=names))

    @router.post("/detokenize", response_model=DetokenizeAnswer, responses=usual, openapi_extra=asks(DetokenizeRequest, service))
    async def detokenize(request: Request) -> Response:
        """The text of ids, control tokens by their names."""
        body = await read_form(request, DetokenizeRequest)
        tokenizer = service.model_named(body.model).tokenizer
        outside = next((place for place, token in enumerate(body.tokens) if token >= tokenizer.vocab_size), None)
        if outside is not None:
            words = f"id {body.tokens[outside]} is outside this vocabulary (0 to {tokenizer.vocab_size - 1})"
            raise RequestError(words, param=f"tokens[{outside}]")
        return answer_json(DetokenizeAnswer(prompt=tokenizer.decode(body.tokens, skip_special=False)))

    return router
