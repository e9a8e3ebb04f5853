"""What every form of a request shares: strict reading of a body, and the error that OpenAI's clients understand.

Rules: a number is no text and a boolean no number; a field that is not known is refused, unless it is one of those that clients send and
that change no answer; an error names the path of the field at fault.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from beichen.errors import BeichenError, RequestError, nearest
from beichen.util.json_kinds import json_kind

Read = TypeVar("Read", bound="Form")


def _as_whole(value: Any) -> Any:
    """JSON knows numbers alone: 5.0 is 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


MODEL_NAME, TOKEN_ID, VECTOR_SIZE = "model-name", "token-id", "vector-size"  # formats whose bounds the served model sets
ModelName = Annotated[str, Field(json_schema_extra={"format": MODEL_NAME})]
WHOLE = BeforeValidator(_as_whole)  # of every int; last among its annotations, so that its bounds are in the schema
TokenId = Annotated[int, Field(ge=0, json_schema_extra={"format": TOKEN_ID}), WHOLE]


@dataclass(frozen=True)
class NullIs:
    """null says as little as a field that is not there: it is this value. The last among a field's annotations."""

    value: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(lambda given: self.value if given is None else given, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "null"}]}


Flag = Annotated[bool, NullIs(False)]
_AT_ODDS = "at_odds"
OTHER_NAMES = {  # what earlier interfaces and other servers call fields -> ours
    "functions": "tools", "function_call": "tool_choice", "guided_json": "response_format.json_schema",
    "guided_regex": "structured_outputs.regex", "guided_choice": "structured_outputs.choice",
    "guided_grammar": "structured_outputs.grammar", "max_new_tokens": "max_tokens", "stop_sequences": "stop",
}  # fmt: skip


class Form(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Sent(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Sent):
    """``type`` is a kind that clients know: invalid_request_error, rate_limit_error, server_error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Sent):
    """``{"error": {...}}``"""

    error: ErrorDetail


def read_body(form: type[Read], body: bytes) -> Read:
    """The request in a body; the first fault as ``RequestError``."""
    try:
        return form.model_validate_json(body)
    except ValidationError as fault:
        faults = fault.errors(include_url=False)
        if faults[0]["type"] == "json_invalid":
            raise RequestError(f"the body is not JSON: {faults[0]['ctx']['error']}", code="invalid_json") from fault
        value = json.loads(body)
        paths = [_path(one["loc"], value, missing=one["type"] == "missing") for one in faults]
        # Where several types are possible, the one that came furthest is what was meant.
        same = [place for place, one in enumerate(faults) if one["loc"][:1] == faults[0]["loc"][:1]]
        meant = max(same, key=lambda place: (len(paths[place]), -place))
        first, path = faults[meant], paths[meant]
        if first["type"] == _AT_ODDS:
            path = f"{path}.{first['ctx']['field']}".removeprefix(".")
        if first["type"] == "extra_forbidden":
            name = str(first["loc"][-1])
            ours = OTHER_NAMES.get(name, "") if len(first["loc"]) == 1 else ""
            here = ours.partition(".")[0] in form.model_fields
            words = "unknown field" if here else f"unknown field{nearest(name, form.model_fields)}"
            raise RequestError(words, param=path, code="unknown_parameter", remedy=f"write {ours}" if here else None) from fault
        raise RequestError(_sentence(first), param=path or None, code=_code(first["type"])) from fault


def at_odds(field: str, words: str) -> PydanticCustomError:
    """What a form raises where fields that are right each alone do not agree; ``field``: the one to change."""
    return PydanticCustomError(_AT_ODDS, "{words}", {"words": words, "field": field})


def error_body(fault: BeichenError) -> ErrorBody:
    """A user's fault as clients read it."""
    param, code = (fault.param, fault.code) if isinstance(fault, RequestError) else (None, None)
    message = str(fault.args[0]) if fault.remedy is None else f"{fault.args[0]} ({fault.remedy})"
    return ErrorBody(error=ErrorDetail(message=message, type="invalid_request_error", param=param, code=code))


def _code(kind: str) -> str:
    """The codes that OpenAI's clients know, by the kinds that pydantic has."""
    if kind in ("missing", "union_tag_not_found"):
        return "missing_required_parameter"
    return "invalid_type" if kind.endswith(("_type", "_parsing")) or kind == "int_from_float" else "invalid_value"


def _sentence(fault: Any) -> str:
    given, kind = fault["input"], fault["type"]
    if kind == "missing":
        return "missing"
    if kind == "union_tag_invalid":
        return f"type {json.dumps(fault['ctx']['tag'], ensure_ascii=False)}: expected one of {fault['ctx']['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"{fault['ctx']['discriminator']} is missing"
    alone = isinstance(given, str | int | float | bool) or given is None
    shown = f", got {json.dumps(given, ensure_ascii=False)}" if alone else ""
    if not 0 < len(shown) < 80:
        shown = f", got {json_kind(given)}" if kind.endswith("_type") else ""
    return fault["msg"].removeprefix("Value error, ") + shown


def _path(places: tuple[int | str, ...], value: Any, *, missing: bool) -> str:
    """``a.b[0]``, without the names of types that stand among the places."""
    path = ""
    for number, place in enumerate(places):
        if isinstance(value, list) and isinstance(place, int) and place < len(value):
            path, value = f"{path}[{place}]", value[place]
        elif isinstance(value, dict) and (place in value or (missing and number == len(places) - 1)):
            path, value = f"{path}.{place}" if path else str(place), value.get(place)
    return path
