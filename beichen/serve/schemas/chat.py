"""``/v1/chat/completions``: the request, the answer, and the chunks of a stream."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from beichen.serve.schemas.base import WHOLE, Flag, Form, Sent, at_odds
from beichen.serve.schemas.dialogues import CHOICE_NEEDS_TOOLS, MaybeChoice, MaybeTools, Messages
from beichen.serve.schemas.sampling import FIELDS, RULES, Positive, SamplingForm, rule

MAX_TOP_LOGPROBS = 20
FinishReason = Literal["stop", "length", "tool_calls"]


class TemplateOptions(Form):
    """What a chat format can be asked for."""

    enable_thinking: bool | None = None


class ChatRequest(SamplingForm):
    """A dialogue, and how its next turn is to be made."""

    model_config = ConfigDict(json_schema_extra={"allOf": [*RULES, CHOICE_NEEDS_TOOLS, rule("top_logprobs", "logprobs")]})

    messages: Messages
    tools: MaybeTools = None
    tool_choice: MaybeChoice = None
    parallel_tool_calls: bool | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS), WHOLE] | None = None
    continue_final_message: Flag = False  # of the assistant, which the answer goes on with; else another turn of its own follows
    add_generation_prompt: bool | None = None  # says the same, the other way round: clients of vLLM send both
    chat_template_kwargs: TemplateOptions | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    modalities: Annotated[list[str] | None, WithJsonSchema({"enum": [["text"], None]})] = None

    @field_validator("modalities")
    @classmethod
    def _text_alone(cls, modalities: list[str] | None) -> list[str] | None:
        if modalities is not None and modalities != ["text"]:
            raise ValueError("this model answers in text alone")
        return modalities

    @model_validator(mode="after")
    def _chat_agrees(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise at_odds("top_logprobs", "needs logprobs: true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise at_odds("max_tokens", "max_tokens and max_completion_tokens differ: give max_completion_tokens alone")
        if self.add_generation_prompt is self.continue_final_message:
            words = (
                "either the answer goes on with the last message (continue_final_message alone), or it is a turn of its own (this alone)"
            )
            raise at_odds("add_generation_prompt", words)
        return self

    @property
    def longest(self) -> int | None:
        """The most tokens of an answer."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def names(self) -> dict[str, str]:
        own = {"prompt_ids": "messages", "logprobs": "top_logprobs"}
        if self.max_completion_tokens is not None:
            own["max_new_tokens"] = "max_completion_tokens"
        return FIELDS | own

    def thinking(self, *, able: bool) -> bool | None:
        """Whether to think first; ``None``: as the model likes. able: whether it can; no effort is what others make anyway."""
        if self.chat_template_kwargs is not None and self.chat_template_kwargs.enable_thinking is not None:
            return self.chat_template_kwargs.enable_thinking
        return False if able and self.reasoning_effort == "none" else None


class Usage(Sent):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


LEAST_LOGPROB = -9999.0  # sent for what is impossible: JSON knows no minus infinity, and OpenAI's clients know this number


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
