"""From a request's form to what the engine is asked, with the model's own defaults where the form says nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beichen.errors import BeichenError, LengthError, RequestError
from beichen.inference.api import Constraint, Request
from beichen.inference.language_model import LanguageModel
from beichen.serve.schemas.chat import ChatRequest
from beichen.serve.schemas.completions import CompletionRequest
from beichen.serve.schemas.sampling import FIELDS, JsonObjectFormat, JsonSchemaFormat, SamplingForm
from beichen.text.answers.format import AnswerFormat, answer_format
from beichen.text.chat_requests import ToolChoice, read_messages, read_tool_choice, read_tools
from beichen.text.encoding_runs import Bounded
from beichen.text.messages import Message
from beichen.text.tokenizer import Tokenizer

TOO_LONG = "context_length_exceeded"
_SAME_NAMES = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "logit_bias")


@dataclass(frozen=True, kw_only=True)
class ChatTurn:
    """What the engine is asked, and how its answer is to be read. ``opened``: text of the answer that the prompt holds already."""

    request: Request
    form: AnswerFormat
    in_thought: bool
    calls: bool
    opened: str = ""


def chat_turn(model: LanguageModel, body: ChatRequest, *, max_model_len: int, owner: str) -> ChatTurn:
    """Raises RequestError where the dialogue cannot be rendered or continued."""
    tools = read_tools(body.tools)
    choice = read_tool_choice(body.tool_choice, tools)
    constraint = _constraint(body)
    forced = choice.mode in ("required", "named")
    if forced and constraint is not None:
        raise RequestError("a call is asked for, and the answer's text is constrained: give one", param="tool_choice")
    tokenizer = model.tokenizer
    form = answer_format(tokenizer.chat_format, tokenizer.special_ids)
    whole = forced or constraint is not None  # it begins with the answer's first character, so no thought can stand before
    able = form.thought is not None
    thinking = False if whole and able else body.thinking(able=able)
    offered = () if choice.mode == "none" else tools
    going_on = body.continue_final_message
    if going_on and forced:
        raise RequestError("a call is asked for, and the answer goes on with a text: give one", param="tool_choice")
    ids = rendered(tokenizer, body.messages, tools=offered, thinking=thinking, prompt=not going_on, names=body.names, room=max_model_len)
    if going_on:
        ids = without_its_end(tokenizer, read_messages(body.messages)[-1], ids, ends=model.stop_ids)
    in_thought = form.begins_in_thought(tokenizer.decode(ids[-16:], skip_special=False))
    opened = ""
    if forced:
        if form.calls is None or in_thought:
            raise RequestError("this model's chat format has no call that an answer can begin with", param="tool_choice")
        opened = form.calls.open
        ids = [*ids, *tokenizer.encode(opened, allow_special=True, continues=True)]
        constraint = Constraint(json_schema=_calls_schema(choice, tools, name=form.calls.name, arguments=form.calls.arguments))
    told = None if not body.logprobs else body.top_logprobs or 0
    request = _request(
        model,
        ids,
        body,
        body.longest,
        constraint=constraint,
        logprobs=told,
        shown=form.tags,
        room=max_model_len,
        owner=owner,
        names=body.names | ({"json_schema": "tools"} if forced else {}),
        tools=bool(offered),
    )
    return ChatTurn(request=request, form=form, in_thought=in_thought, calls=bool(offered), opened=opened)


def rendered(
    tokenizer: Tokenizer, messages: Any, *, tools: Sequence[Mapping[str, Any]], thinking: bool | None = None, prompt: bool = True,
    names: Mapping[str, str] = FIELDS, room: int | None = None,
) -> list[int]:  # fmt: skip
    """A dialogue as the model gets it. prompt: whether an answer is to follow. names: as ``as_asked`` has them. room: more tokens are
    refused, where they are many without being counted."""
    read = read_messages(messages)
    try:
        return tokenizer.render(read, tools=tools, add_generation_prompt=prompt, thinking=thinking, longest=room).ids
    except LengthError as fault:
        raise too_long(f"at least {fault.least}", fault.most, param="messages", tools=bool(tools)) from fault
    except BeichenError as fault:
        raise as_asked(fault, names, otherwise="messages") from fault


def without_its_end(tokenizer: Tokenizer, last: Message, ids: list[int], *, ends: Collection[int]) -> list[int]:
    """A rendered dialogue without what closes its ``last`` message, an answer that is to go on. ends: ids at which answers end.
    Raises RequestError where that is no text of the assistant's, or its end cannot be found."""
    if last.role != "assistant" or last.tool_calls or not last.content.strip():
        what = "a call" if last.tool_calls else f"of the {last.role}" if last.role != "assistant" else "empty"
        raise RequestError(f"the last message is {what}: only a text of the assistant goes on", param="continue_final_message")
    end = max((place for place, token in enumerate(ids) if token in ends), default=0)
    content = last.content
    if not tokenizer.decode(ids[:end], skip_special=False).endswith(content):  # the format cuts blanks off, or puts some behind
        content = content.strip()
        while end and not tokenizer.token_bytes(ids[end - 1]).strip():
            end -= 1
    if not tokenizer.decode(ids[:end], skip_special=False).endswith(content):
        raise RequestError("this model's chat format does not show where its answers end", param="continue_final_message")
    return ids[:end]


def as_asked(fault: BeichenError, names: Mapping[str, str], *, otherwise: str | None = None) -> RequestError:
    """The same fault at the field that it is about. names: what fields are called that have other names in the request. otherwise: the
    field of a fault that is about none in particular."""
    param = otherwise if fault.field is None else names.get(fault.field, fault.field)
    words = str(fault.args[0]).removeprefix(f"{param}=").removeprefix(f"{param}: ")
    return RequestError(words, param=param, remedy=fault.remedy)


def completion_requests(model: LanguageModel, body: CompletionRequest, *, max_model_len: int, owner: str, special: bool) -> list[Request]:
    """One for each prompt. special: whether the server's owner lets texts hold control tokens. Raises RequestError at the field that is
    at fault."""
    if body.allow_special and not special:
        raise no_control_tokens()
    found = []
    for ids in prompts_of(model, body.prompt, room=max_model_len, special=body.allow_special):
        told, before = body.logprobs, body.logprobs if body.echo else None
        longest = 16 if body.max_tokens is None else max(body.max_tokens, 1)
        found.append(_request(
            model, ids, body, longest, constraint=_constraint(body), logprobs=told, prompt_logprobs=before,
            room=max_model_len, owner=owner, names=body.names,
        ))  # fmt: skip
    return found


def no_control_tokens() -> RequestError:
    """Where a text is to hold some, and the server's owner has not said that it may."""
    remedy = "leave it out, or start the server with --allow-special"
    return RequestError("this server takes names of control tokens as text", param="allow_special", remedy=remedy)


def prompts_of(model: LanguageModel, prompt: Any, *, room: int, special: bool = False, param: str = "prompt") -> list[list[int]]:
    """Ids of each prompt: a text, ids, or a list of either. Raises RequestError for an empty one, one of more than ``room`` tokens,
    and ids that the model does not know."""
    alone = isinstance(prompt, str) or isinstance(prompt[0], int)
    found = []
    for place, one in enumerate([prompt] if alone else prompt):
        here = param if alone else f"{param}[{place}]"
        if isinstance(one, str):
            encoder = Bounded(model.tokenizer, model.tokenizer.least_tokens, room)
            try:
                ids = encoder.encode(one, allow_special=special)
            except LengthError as fault:
                raise too_long(f"at least {fault.least}", room, param=here) from fault
        else:
            ids = list(one)
        if not ids:
            raise RequestError("the text is empty: there is nothing to read", param=here)
        _check_known(model, ids, param=here)
        if len(ids) > room:
            raise too_long(len(ids), room, param=here)
        found.append(ids)
    return found


def too_long(count: int | str, room: int | str, *, param: str, tools: bool = False) -> RequestError:
    """For a prompt of so many tokens. tools: whether those of tools are among them."""
    what, shorten = ("messages and tools together have", "shorten either") if tools else ("it has", "shorten it")
    remedy = f"{shorten}; where the model was trained for more, a larger --max-model-len of the server reads more"
    return RequestError(f"{what} {count} tokens, and this server reads {room}", param=param, code=TOO_LONG, remedy=remedy)


def _check_known(model: LanguageModel, ids: Sequence[int], *, param: str) -> None:
    outside = next((token for token in ids if token >= model.config.vocab_size), None)
    if outside is not None:
        raise RequestError(f"id {outside}: the model knows 0 to {model.config.vocab_size - 1}", param=param)


def _request(
    model: LanguageModel, ids: Sequence[int], body: SamplingForm, longest: int | None, *, constraint: Constraint | None,
    logprobs: int | None, room: int, owner: str, names: Mapping[str, str], prompt_logprobs: int | None = None, shown: Sequence[str] = (),
    tools: bool = False,
) -> Request:  # fmt: skip
    left = room - len(ids)
    if left < 1:
        raise too_long(len(ids), f"{room} with the answer", param=names["prompt_ids"], tools=tools)
    _check_known(model, body.stop_token_ids or (), param="stop_token_ids")
    given: dict[str, Any] = {name: getattr(body, name) for name in _SAME_NAMES if getattr(body, name) is not None}
    if body.top_k is not None and body.top_k > 0:
        given["top_k"] = body.top_k
    stop_ids = () if body.ignore_eos else (*model.stop_ids, *(body.stop_token_ids or ()))
    try:
        most = longest or model.defaults.new_tokens(len(ids)) or left
        request = model.request(
            ids, max_new_tokens=min(most, left), stop=body.stops, stop_ids=stop_ids, constraint=constraint, logprobs=logprobs,
            prompt_logprobs=prompt_logprobs, min_new_tokens=None if body.min_tokens is None else min(body.min_tokens, most, left),
            shown_tokens=shown, priority=body.priority, owner=owner, **given,
        )  # fmt: skip
        model.generator.check(request)
    except RequestError:
        raise
    except BeichenError as fault:
        raise as_asked(fault, names) from fault
    return request


def _constraint(body: SamplingForm) -> Constraint | None:
    asked, outputs = body.response_format, body.structured_outputs
    if isinstance(asked, JsonObjectFormat):
        return Constraint(json_object=True)
    if isinstance(asked, JsonSchemaFormat):
        return Constraint(json_schema=asked.json_schema.schema_)
    if outputs is None:
        return None
    return Constraint(regex=outputs.regex, choices=outputs.choice, lark=outputs.grammar)


def _calls_schema(choice: ToolChoice, tools: Sequence[Mapping[str, Any]], *, name: str, arguments: str) -> Mapping[str, Any]:
    """One call of the tools that may be called: its name, then arguments that its own schema accepts."""
    functions = [tool["function"] for tool in tools if choice.name in (None, tool["function"]["name"])]
    ways = [
        {"type": "object", "required": [name, arguments], "additionalProperties": False,
         "properties": {name: {"const": function["name"]}, arguments: function.get("parameters") or {"type": "object"}}}
        for function in functions
    ]  # fmt: skip
    return ways[0] if len(ways) == 1 else {"anyOf": ways}
