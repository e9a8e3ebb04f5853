"""``/v1/completions``, ``/v1/models``, ``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from beichen.serve.schemas.base import WHOLE, Flag, Form, ModelName, NullIs, Sent, TokenId, at_odds
from beichen.serve.schemas.chat import Usage
from beichen.serve.schemas.dialogues import MaybeMessages, MaybeTools
from beichen.serve.schemas.sampling import RULES, SamplingForm

MAX_LOGPROBS = 20
MAX_TEXTS = 2048
Text = Annotated[str, Field(json_schema_extra={"minLength": 1})]
Ids = Annotated[list[TokenId], Field(min_length=1)]
Many = Field(min_length=1, max_length=MAX_TEXTS)


def _kind_of_texts(value: Any) -> str:
    """By the first one, so that a fault of another is told as what it is."""
    if not isinstance(value, list):
        return "text"
    first = value[0] if value else None
    if isinstance(first, list):
        return "lists"
    return "ids" if isinstance(first, int | float) else "texts"


Texts = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Ids, Tag("ids")] | Annotated[list[Text], Many, Tag("texts")]
    | Annotated[list[Ids], Many, Tag("lists")],
    Discriminator(_kind_of_texts),
]  # fmt: skip
_SOMETHING_IS_ANSWERED: dict[str, Any] = {
    "anyOf": [{"properties": {"max_tokens": {"not": {"const": 0}}}}, {"required": ["echo"], "properties": {"echo": {"const": True}}}]
}


class CompletionRequest(SamplingForm):
    """Texts or ids to be continued. Names of control tokens in a text are text, unless the server's owner allows them."""

    model_config = ConfigDict(json_schema_extra={"allOf": [*RULES, _SOMETHING_IS_ANSWERED]})

    prompt: Texts
    max_tokens: Annotated[int, Field(ge=0), WHOLE] | None = None
    best_of: Annotated[int, Field(ge=1, le=20), WHOLE] | None = None
    echo: Flag = False
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE] | None = None
    suffix: Annotated[str, Field(json_schema_extra={"maxLength": 0})] | None = None
    allow_special: Flag = False

    @model_validator(mode="after")
    def _completion_agrees(self) -> CompletionRequest:
        if self.suffix:
            raise at_odds("suffix", "this model does not fill in the middle")
        if self.max_tokens == 0 and not self.echo:
            raise at_odds("max_tokens", "0: nothing would be answered; with echo the prompt is")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise at_odds("best_of", "best_of is less than n")
        if self.best_of is not None and self.best_of > (self.n or 1) and self.stream:
            raise at_odds("best_of", "the best of several answers is known at their end: it cannot be streamed")
        return self


class CompletionLogprobs(Sent):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Sent):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class CompletionAnswer(Sent):
    """A whole answer, and each event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


class TokenizeRequest(Form):
    """A text, or a dialogue as a model gets it."""

    model_config = ConfigDict(json_schema_extra={
        "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("prompt", "messages")]
    })  # fmt: skip

    model: ModelName | None = None
    prompt: str | None = None
    messages: MaybeMessages = None
    tools: MaybeTools = None
    add_generation_prompt: Annotated[bool, NullIs(True)] = True
    allow_special: Flag = False
    return_token_strs: Flag = False

    @model_validator(mode="after")
    def _one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise at_odds("prompt", "expected prompt or messages, one of the two")
        return self


class TokenizeAnswer(Sent):
    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class DetokenizeRequest(Form):
    model: ModelName | None = None
    tokens: list[TokenId]


class DetokenizeAnswer(Sent):
    prompt: str


class ModelCard(Sent):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "beichen"
    root: str | None = None  # the base of an adapter
    parent: str | None = None  # the same
    max_model_len: int | None = None


class ModelList(Sent):
    object: Literal["list"] = "list"
    data: list[ModelCard]
