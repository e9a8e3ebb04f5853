"""``/v1/embeddings``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from beichen.serve.schemas.base import VECTOR_SIZE, WHOLE, Form, ModelName, NullIs, Sent
from beichen.serve.schemas.completions import Texts


class EmbeddingRequest(Form):
    """Mean of the last hidden states, normed to length 1; a model of language, not one trained for search."""

    model: ModelName
    input: Texts
    encoding_format: Annotated[Literal["float", "base64"], NullIs("float")] = "float"
    dimensions: Annotated[int, Field(ge=1, json_schema_extra={"format": VECTOR_SIZE}), WHOLE] | None = None
    user: str | None = None


class Embedding(Sent):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Sent):
    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(Sent):
    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
