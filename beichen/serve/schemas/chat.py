"""``/v1/chat/completions``: the request, the answer, and the chunks of a stream."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from beichen.serve.schemas.base import Form, Sent
from beichen.serve.schemas.sampling import Positive, SamplingForm

MAX_TOP_LOGPROBS = 20
FinishReason = Literal["stop", "length", "tool_calls"]


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _turn(role: str, *required: str, **more: Any) -> dict[str, Any]:
    return _object(["role", *required], role={"const": role}, content=_CONTENT, **more)


_STRING, _FUNCTION = {"type": "string"}, {"const": "function"}
_PARTS = {"type": "array", "items": _object(["type", "text"], type={"const": "text"}, text=_STRING)}
_CONTENT = {"anyOf": [_STRING, _PARTS]}
_CALLED = _object(["name", "arguments"], name=_STRING, arguments=_STRING)
_CALLS = {"type": "array", "items": _object(["id", "type", "function"], id=_STRING, type=_FUNCTION, function=_CALLED)}
_TURNS = [
    *(_turn(role, "content") for role in ("system", "developer", "user")),
    _turn("assistant", tool_calls=_CALLS, reasoning_content=_STRING),
    _turn("tool", "content", "tool_call_id", tool_call_id=_STRING),
]
_MESSAGES = {"type": "array", "minItems": 1, "items": {"anyOf": _TURNS}}
_OFFERED = _object(["name"], name=_STRING, description=_STRING, parameters={"type": "object"}, strict={"type": "boolean"})
_TOOLS = {"type": "array", "items": _object(["type", "function"], type=_FUNCTION, function=_OFFERED)}
_NAMED = _object(["type", "function"], type=_FUNCTION, function=_object(["name"], name=_STRING))
_CHOICE = {"anyOf": [{"enum": ["auto", "none", "required"]}, _NAMED]}


class TemplateOptions(Form):
    """What a chat format can be asked for."""

    enable_thinking: bool | None = None


class ChatRequest(SamplingForm):
    """``messages``, ``tools`` and ``tool_choice`` are read by :mod:`beichen.text.chat_requests`, which names the path of a fault."""

    messages: Annotated[Any, WithJsonSchema(_MESSAGES)]
    tools: Annotated[Any, WithJsonSchema(_TOOLS)] = None
    tool_choice: Annotated[Any, WithJsonSchema(_CHOICE)] = None
    parallel_tool_calls: bool | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    chat_template_kwargs: TemplateOptions | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    modalities: list[str] | None = None

    @field_validator("modalities")
    @classmethod
    def _text_alone(cls, modalities: list[str] | None) -> list[str] | None:
        if modalities is not None and modalities != ["text"]:
            raise ValueError("this model answers in text alone")
        return modalities

    @model_validator(mode="after")
    def _chat_agrees(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs without logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ: give max_completion_tokens alone")
        return self

    @property
    def longest(self) -> int | None:
        """The most tokens of an answer."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def thinking(self) -> bool | None:
        """Whether to think first; ``None``: as the model likes."""
        if self.chat_template_kwargs is not None and self.chat_template_kwargs.enable_thinking is not None:
            return self.chat_template_kwargs.enable_thinking
        return False if self.reasoning_effort == "none" else None


class Usage(Sent):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Sent):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Sent):
    content: list[TokenLogprob] | None
    refusal: None = None


class CalledFunction(Sent):
    name: str
    arguments: str


class Call(Sent):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AnswerMessage(Sent):
    """``content`` is null where an answer is calls alone."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    refusal: None = None
    tool_calls: list[Call] | None = None


class ChatChoice(Sent):
    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason


class ChatAnswer(Sent):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None


class FunctionDelta(Sent):
    """The name comes with a call's first delta, pieces of arguments with all."""

    name: str | None = None
    arguments: str | None = None


class CallDelta(Sent):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class AnswerDelta(Sent):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(Sent):
    index: int
    delta: AnswerDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(Sent):
    """One event of a stream; the last one before ``[DONE]`` has the usage and no choice, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None

    def as_json(self) -> str:
        """Without the fields of a delta that say nothing; ``finish_reason`` is always there."""
        written = self.model_dump(exclude_none=True)
        for choice in written["choices"]:
            choice.setdefault("finish_reason", None)
        return json.dumps(written, ensure_ascii=False, separators=(",", ":"))
