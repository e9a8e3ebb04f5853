"""Lines of OpenAI's batch files: ``{"custom_id", "method", "url", "body"}``, where a body is what ``/v1/chat/completions`` takes.

Comes in: a line. Goes out: a question, and the line of the output file that its answer makes, as clients of that interface read it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from beichen.errors import RequestError
from beichen.inference.api import Completion, Delta
from beichen.inference.language_model import LanguageModel
from beichen.inference.questions import Question
from beichen.serve.asking import TOO_LONG, chat_turn
from beichen.serve.chat import ChoiceReader, WholeChoice, new_id, usage
from beichen.serve.schemas.base import read_body
from beichen.serve.schemas.chat import ChatAnswer, ChatRequest
from beichen.serve.unknown_model import no_such_model

URL = "/v1/chat/completions"


def read_batch_line(model: LanguageModel, name: str, line: Mapping[str, Any]) -> Question:
    """name: what the model is called here. Raises RequestError where the line asks for something else than one chat completion of it."""
    if line.get("url", URL) != URL:
        raise RequestError(f"{line['url']!r}: of a batch file, {URL} is answered here", param="url")
    try:
        return _question(model, name, line, read_body(ChatRequest, json.dumps(line["body"]).encode()))
    except RequestError as fault:
        raise _within("body", fault) from fault


def _question(model: LanguageModel, name: str, line: Mapping[str, Any], body: ChatRequest) -> Question:
    if body.model != name:
        raise no_such_model(body.model, [name], here="this file is answered by", param="model")
    if (body.n or 1) != 1:
        raise RequestError("a line of a batch file has one answer here", param="n")
    try:
        turn = chat_turn(model, body, max_model_len=min(model.max_length, model.generator.capacity), owner="")
    except RequestError as fault:
        if fault.code != TOO_LONG:
            raise
        words = str(fault.args[0]).removeprefix(f"{fault.param}: ")
        raise RequestError(words, param=fault.param, code=TOO_LONG, remedy="shorten it: the model was trained on no more") from fault
    parallel = body.parallel_tool_calls is not False

    def write(answer: Completion) -> dict[str, Any]:
        reader = ChoiceReader(turn, model.tokenizer, parallel=parallel)
        whole = Delta(text=answer.text, ids=answer.ids, logprobs=answer.logprobs, finish_reason=answer.finish_reason)
        answer_read = WholeChoice(reader)
        answer_read.read(whole)
        told = ChatAnswer(
            id=new_id("chatcmpl"), created=int(time.time()), model=name, choices=[answer_read.choice(turn)],
            usage=usage(turn, [reader]),
        )  # fmt: skip
        response = {"status_code": 200, "request_id": new_id("req"), "body": told.model_dump(mode="json")}
        return {"id": new_id("batch_req"), "custom_id": line["custom_id"], "response": response, "error": None}

    return Question(request=turn.request, write=write)


def _within(field: str, fault: RequestError) -> RequestError:
    """The same fault, in a line that has the request as this field."""
    words = str(fault.args[0]).removeprefix(f"{fault.param}: ")
    param = field if fault.param is None else f"{field}.{fault.param}"
    return RequestError(words, param=param, code=fault.code, remedy=fault.remedy)
