"""How an answer is drawn, as chat and completions state it, with OpenAI's ranges; and the constraint on its text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from beichen.serve.schemas.base import WHOLE, Flag, Form, ModelName, NullIs, TokenId, at_odds

MAX_CHOICES, MAX_STOPS = 128, 16
MAX_STOP_LENGTH, MAX_STOP_IDS = 1000, 256  # they are looked for behind every token, in the engine's thread
Positive = Annotated[int, Field(ge=1), WHOLE]
Penalty = Annotated[float, Field(ge=-2, le=2)]
StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]
Stops = Annotated[list[StopText], Field(json_schema_extra={"maxItems": MAX_STOPS})]


def _by_id(biases: dict[str, float]) -> dict[int, float]:
    return {int(token): bias for token, bias in biases.items()}


Bias = Annotated[dict[Annotated[str, Field(pattern="^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]], AfterValidator(_by_id)]


def rule(field: str, switch: str) -> dict[str, Any]:
    """In the words of JSON Schema: a field only where a switch is on."""
    return {"anyOf": [{"properties": {field: {"type": "null"}}}, {"required": [switch], "properties": {switch: {"const": True}}}]}


_NO_FORMAT = {"properties": {"response_format": {"anyOf": [{"type": "null"}, {"properties": {"type": {"const": "text"}}}]}}}
RULES: list[Any] = [rule("stream_options", "stream"), {"anyOf": [{"properties": {"structured_outputs": {"type": "null"}}}, _NO_FORMAT]}]


class StreamOptions(Form):
    """What a stream says besides text."""

    include_usage: Flag = False
    include_obfuscation: Flag = False  # padding against eavesdroppers; says nothing here


class TextFormat(Form):
    type: Literal["text"]


class JsonObjectFormat(Form):
    type: Literal["json_object"]


class NamedSchema(Form):
    """The schema of an answer; it is always kept to the letter, ``strict`` or not."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any] | bool, NullIs({})] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Form):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Form):
    """A constraint that OpenAI's interface has no word for; exactly one of them."""

    model_config = ConfigDict(json_schema_extra={
        "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("regex", "choice", "grammar")]
    })  # fmt: skip

    regex: str | None = None
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    grammar: str | None = None

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        if sum(value is not None for value in (self.regex, self.choice, self.grammar)) != 1:
            raise ValueError("expected exactly one of regex, choice, grammar")
        return self


FIELDS = {  # our settings by their names in requests, where these differ
    "max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "stop_strings": "stop", "stop_ids": "stop_token_ids",
    "prompt_ids": "prompt", "prompt_logprobs": "logprobs", "json_object": "response_format",
    "json_schema": "response_format.json_schema.schema", "regex": "structured_outputs.regex", "choices": "structured_outputs.choice",
    "lark": "structured_outputs.grammar", "thinking": "chat_template_kwargs.enable_thinking",
}  # fmt: skip


class SamplingForm(Form):
    """Fields that chat and completions share. What is not stated is as the model's generation_config.json says."""

    model: ModelName
    stream: Flag = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), WHOLE] | None = None
    stop: StopText | Stops | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    # Beyond OpenAI's, by the names that other servers use.
    top_k: Annotated[int, Field(ge=-1), WHOLE] | None = None  # 0 and -1: all
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    min_tokens: Annotated[int, Field(ge=0), WHOLE] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=MAX_STOP_IDS)] | None = None
    ignore_eos: Flag = False
    priority: Annotated[int, WHOLE, NullIs(0)] = 0

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
            raise at_odds("stream_options", "needs stream: true")
        constrained = self.response_format is not None and self.response_format.type != "text"
        if constrained and self.structured_outputs is not None:
            raise at_odds("structured_outputs", "response_format constrains the answer already: give one of the two")
        return self

    @property
    def names(self) -> dict[str, str]:
        """What settings of ours are called in this request, where the names differ."""
        return FIELDS

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
