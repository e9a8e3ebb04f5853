"""What clients of the originals' services ask, as the engine is asked: TeleChat's dialogue service, NDL's single questions.

Rules: what the published services let a field mean holds here (``max_length`` counts prompt and answer; a null is the model's own default);
a dialogue that is too long loses whole turns from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beichen.errors import BeichenError, LengthError, RequestError
from beichen.inference.api import Request
from beichen.inference.language_model import LanguageModel
from beichen.serve.asking import too_long
from beichen.serve.schemas.originals import FAILED, WORDS, NdlRequest, TeleChatRequest
from beichen.text.answers.format import answer_format
from beichen.text.messages import Message
from beichen.text.prompts import last_turns

NDL_SAMPLING = {"temperature": 0.9, "top_k": 30, "top_p": 0.5, "repetition_penalty": 1.3}  # of all its demonstrations
NDL_NEW_TOKENS = 400


def telechat_request(model: LanguageModel, asked: TeleChatRequest, *, max_model_len: int, owner: str) -> Request:
    """Raises RequestError with the service's code where there is no room for an answer."""
    room = min(max_model_len, asked.max_length or max_model_len)
    wished = {
        "temperature": asked.temperature or model.defaults.temperature or 1.0,
        "top_k": asked.top_k, "top_p": asked.top_p, "repetition_penalty": asked.repetition_penalty,
    }  # fmt: skip
    sampled = model.defaults.do_sample if asked.do_sample is None else asked.do_sample
    if not sampled:
        wished.update(temperature=0.0, top_k=None, top_p=None)
    try:
        return _request(model, asked.messages, room=room, most=room, owner=owner, sampling=wished)
    except BeichenError as fault:
        raise RequestError(WORDS[FAILED], param="dialog", code=FAILED) from fault


def ndl_request(model: LanguageModel, asked: NdlRequest, *, max_model_len: int, owner: str) -> Request:
    """Raises RequestError where there is no room for an answer."""
    messages = [Message(role="user", content=asked.prompt)]
    return _request(model, messages, room=max_model_len, most=NDL_NEW_TOKENS, owner=owner, sampling=NDL_SAMPLING)


def _request(
    model: LanguageModel, messages: Sequence[Message], *, room: int, most: int, owner: str, sampling: dict[str, Any]
) -> Request:  # fmt: skip
    tokenizer = model.tokenizer
    thinking = None if answer_format(tokenizer.chat_format, tokenizer.special_ids).thought is None else False  # no place for a thought

    def prompt(turns: list[Message]) -> list[int]:
        return tokenizer.render(turns, add_generation_prompt=True, thinking=thinking, longest=room).ids

    try:
        ids, left_out = last_turns(messages, prompt, room - 1)
    except LengthError as fault:
        raise too_long(f"at least {fault.least}", room, param="prompt") from fault
    if left_out is None:
        raise too_long(len(ids), f"{room} with the answer", param="prompt")
    given = {name: value for name, value in sampling.items() if value is not None}
    request = model.request(ids, max_new_tokens=min(most, room - len(ids)), owner=owner, **given)
    model.generator.check(request)
    return request
