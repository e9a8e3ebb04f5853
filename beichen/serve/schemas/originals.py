"""The services that the originals published: TeleChat's ``/telechat/gptDialog/v2`` and ``/v4``, NDL's ``/chat``: for their clients.

Rules: fields, defaults, ranges and codes are those of the published TeleChat service, in its order of checks, failures with status 200 as
there. Mended: a dialogue that ends with an answer is no question (10904), and the code 10903 reaches the client of a stream, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from beichen.errors import RequestError
from beichen.serve.schemas.base import Form, Sent
from beichen.text.messages import Message

MISSING, OUT_OF_RANGE, FAILED, BAD_DIALOG = "10301", "10305", "10903", "10904"
WORDS = {MISSING: "服务必填参数缺失", OUT_OF_RANGE: "请求参数范围错误", FAILED: "服务执行失败", BAD_DIALOG: "服务请求参数dialog错误"}


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and low <= value <= high  # true counts as 1 in the original


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, float) and low < value < high


# name -> (default, what is accepted besides null)
FIELDS: Mapping[str, tuple[Any, Callable[[Any], bool]]] = {
    "do_sample": (True, lambda value: isinstance(value, bool)),
    "max_length": (4096, _whole(1, 4096)),
    "top_k": (20, _whole(1, 99)),
    "top_p": (0.2, _between(0.0, 1.0)),
    "temperature": (0.1, _between(0.0, 1.0)),
    "repetition_penalty": (1.03, _between(1.0, 100.0)),
}


def _or_null(low: float, high: float, default: float, *, kind: str) -> dict[str, Any]:
    bounds = {"minimum": low, "maximum": high} if kind == "integer" else {"exclusiveMinimum": low, "exclusiveMaximum": high}
    return {"anyOf": [{"type": kind, **bounds}, {"type": "null"}], "default": default}


_TURN = {"type": "object", "required": ["role", "content"],
         "properties": {"role": {"enum": ["user", "bot"]}, "content": {"type": "string"}}}  # fmt: skip
TELECHAT_BODY = {  # for the OpenAPI page; what a schema cannot say: roles take turns, and fractions are written with a point
    "type": "object", "required": ["dialog"], "properties": {
        "dialog": {"type": "array", "minItems": 1, "items": _TURN},
        "do_sample": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": True},
        "max_length": _or_null(1, 4096, 4096, kind="integer"), "top_k": _or_null(1, 99, 20, kind="integer"),
        "top_p": _or_null(0, 1, 0.2, kind="number"), "temperature": _or_null(0, 1, 0.1, kind="number"),
        "repetition_penalty": _or_null(1, 100, 1.03, kind="number"),
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TeleChatRequest:
    """A dialogue that ends with a question, and how to answer; ``None`` in a field is the model's own default."""

    messages: tuple[Message, ...]
    do_sample: bool | None
    max_length: int | None
    top_k: int | None
    top_p: float | None
    temperature: float | None
    repetition_penalty: float | None


class TeleChatFailure(Sent):
    """What a failure looks like."""

    seqid: str = ""
    code: str
    message: str
    flag: str = "0"
    data: str = "执行失败"


class TeleChatAnswer(Sent):
    """The answer of v4."""

    role: str = "bot"
    content: str


def read_telechat(body: Any) -> TeleChatRequest:
    """The request in a JSON value; a fault is a ``RequestError`` with the service's code."""
    if not isinstance(body, dict) or body.get("dialog") is None:
        raise _fault(MISSING, "dialog")
    messages = tuple(_turn(turn, place) for place, turn in enumerate(_turns(body["dialog"])))
    values = {name: body.get(name, default) for name, (default, _) in FIELDS.items()}
    for name, (_, accepts) in FIELDS.items():
        if values[name] is not None and not accepts(values[name]):
            raise _fault(OUT_OF_RANGE, name)
    if not messages:
        raise _fault(FAILED, "dialog")
    if messages[-1].role != "user":
        raise _fault(BAD_DIALOG, f"dialog[{len(messages) - 1}].role")
    return TeleChatRequest(messages=messages, **values)


def telechat_failure(code: str) -> TeleChatFailure:
    """The body that tells of a failure."""
    return TeleChatFailure(code=code, message=WORDS[code])


def _turns(dialog: Any) -> list[Any]:
    if not isinstance(dialog, list):
        raise _fault(BAD_DIALOG, "dialog")
    return dialog


def _turn(turn: Any, place: int) -> Message:
    expected = ("user", "bot")[place % 2]
    if not isinstance(turn, dict) or turn.get("role") != expected:
        raise _fault(BAD_DIALOG, f"dialog[{place}].role")
    if not isinstance(turn.get("content"), str) or not _is_unicode(turn["content"]):
        raise _fault(BAD_DIALOG, f"dialog[{place}].content")
    return Message(role="user" if expected == "user" else "assistant", content=turn["content"])


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _fault(code: str, param: str) -> RequestError:
    return RequestError(WORDS[code], param=param, code=code)


class NdlRequest(Form):
    """One question, without history."""

    prompt: str


class NdlAnswer(Sent):
    response: str
    status: int = 200
    time: str


def ndl_answer(text: str, at: datetime) -> NdlAnswer:
    """An answer with its time, as the original writes it."""
    return NdlAnswer(response=text, time=at.strftime("%Y-%m-%d %H:%M:%S"))
