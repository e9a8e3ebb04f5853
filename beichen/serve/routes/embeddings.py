"""``/v1/embeddings``: texts as vectors of length 1, the mean of the model's last hidden states.

This is no model that was trained for search; the vectors are as good as its understanding of the texts.
"""

from __future__ import annotations

import asyncio
import base64

from fastapi import APIRouter, Request, Response
from torch import Tensor

from beichen.errors import RequestError
from beichen.serve.asking import prompts_of
from beichen.serve.description import asks, faults
from beichen.serve.exchange import answer_whole, read_form
from beichen.serve.schemas.embeddings import Embedding, EmbeddingAnswer, EmbeddingRequest, EmbeddingUsage
from beichen.serve.service import Service


def routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"])
    size = service.model.config.hidden_size

    @router.post("/embeddings", response_model=EmbeddingAnswer, responses=faults(400, 404), openapi_extra=asks(EmbeddingRequest, service))
    async def embeddings(request: Request) -> Response:
        """Texts or ids as vectors of length 1: means of the model's last hidden states."""
        body = await read_form(request, EmbeddingRequest)
        model = service.model_named(body.model)
        if body.dimensions not in (None, size):
            raise RequestError(f"{body.dimensions}: this model's vectors have {size} numbers and cannot be cut", param="dimensions")
        texts = await asyncio.to_thread(prompts_of, model, body.input, room=service.max_model_len, param="input")
        return await answer_whole(request, _answer(service, body, texts, adapter=model.adapter))

    return router


async def _answer(service: Service, body: EmbeddingRequest, texts: list[list[int]], *, adapter: str | None) -> EmbeddingAnswer:
    vectors = await service.embed(texts, adapter=adapter)
    data = await asyncio.to_thread(_written, vectors, as_text=body.encoding_format == "base64")
    tokens = sum(map(len, texts))
    return EmbeddingAnswer(model=body.model, data=data, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


def _written(vectors: Tensor, *, as_text: bool) -> list[Embedding]:
    """As numbers, or as the base64 of little-endian float32."""
    if as_text:
        found = [base64.b64encode(row.tobytes()).decode() for row in vectors.numpy().astype("<f4")]
        return [Embedding(index=place, embedding=text) for place, text in enumerate(found)]
    return [Embedding(index=place, embedding=numbers) for place, numbers in enumerate(vectors.tolist())]
