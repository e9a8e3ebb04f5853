"""How an answer is drawn, as chat and completions state it, with OpenAI's ranges; and the constraint on its text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from beichen.serve.schemas.base import Form, ModelName, TokenId

MAX_CHOICES, MAX_STOPS = 128, 16
Positive = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
StopText = Annotated[str, Field(min_length=1)]


class StreamOptions(Form):
    """What a stream says besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False  # padding against eavesdroppers; says nothing here


class TextFormat(Form):
    type: Literal["text"]


class JsonObjectFormat(Form):
    type: Literal["json_object"]


class NamedSchema(Form):
    """The schema of an answer; it is always kept to the letter, ``strict`` or not."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | bool = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Form):
    """A constraint that OpenAI's interface has no word for; exactly one of them."""

    regex: str | None = None
    choice: list[StopText] | None = Field(default=None, min_length=1)
    grammar: str | None = None

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        if sum(value is not None for value in (self.regex, self.choice, self.grammar)) != 1:
            raise ValueError("expected exactly one of regex, choice, grammar")
        return self


class SamplingForm(Form):
    """Fields that chat and completions share. What is not stated is as the model's generation_config.json says."""

    model: ModelName
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[Annotated[int, Field(ge=0, strict=False)], Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: StopText | list[StopText] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    # Beyond OpenAI's, by the names that other servers use.
    top_k: int | None = Field(default=None, ge=-1)  # 0 and -1: all
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    min_tokens: int | None = Field(default=None, ge=0)
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool = False
    priority: int = 0

    # What clients send and no answer here depends on.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prediction: dict[str, Any] | None = None  # a guess of the answer, to be quicker by
    verbosity: str | None = None

    @field_validator("stop")
    @classmethod
    def _few(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > MAX_STOPS:
            raise ValueError(f"{len(stop)} stop texts: expected at most {MAX_STOPS}")
        return stop

    @model_validator(mode="after")
    def _agree(self) -> SamplingForm:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options without stream")
        constrained = self.response_format is not None and self.response_format.type != "text"
        if constrained and self.structured_outputs is not None:
            raise ValueError("response_format and structured_outputs both constrain the answer: give one")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
