"""What ``/openapi.json`` says of a route: the body that it reads by hand, its events and its faults.

Comes in: the forms of ``serve/schemas``. Rule: the description is exact, so bounds that the served model sets (its names, its vocabulary)
are written into it where a form marks them.
"""

from __future__ import annotations

from typing import Any

from beichen.serve.schemas.base import MODEL_NAME, TOKEN_ID, VECTOR_SIZE, ErrorBody, Form, Sent
from beichen.serve.service import Service

FAULTS = {
    400: "the request is at fault; `param` names the field",
    401: "a key is needed",
    404: "there is no such model",
    408: "the body did not arrive in time",
    413: "the body is larger than this server takes",
    429: "more requests than may wait; `Retry-After` says when to come back",
    500: "the server is at fault",
    503: "the server is ending; `Retry-After` says when to come back",
    504: "the answer took longer than it may",
}
Answers = dict[int | str, dict[str, Any]]


def asks(form: type[Form], service: Service) -> dict[str, Any]:
    """The body of a route, as ``openapi_extra``."""
    return asks_json(_bounded(_whole(form.model_json_schema()), service))


def asks_json(schema: dict[str, Any]) -> dict[str, Any]:
    """The same by a schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def names_model(service: Service) -> dict[str, Any]:
    """The ``{name}`` in a route's path, which it reads by hand, as ``openapi_extra``."""
    return {"parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(service.names)}}]}


def told(*statuses: int) -> Answers:
    """Faults of a route, as ``responses``."""
    return {status: {"model": ErrorBody, "description": FAULTS[status]} for status in statuses}


def faults(*statuses: int) -> Answers:
    """The faults of a route that reads a body: these, and those of the gate."""
    return told(*sorted({*statuses, 408, 413, 429, 503}))


def or_events(chunk: type[Sent]) -> Answers:
    """That a route also streams, as ``responses``: each event is a chunk, or a fault that ends it; the last one is ``[DONE]``."""
    read = {"anyOf": [_whole(chunk.model_json_schema()), _whole(ErrorBody.model_json_schema())]}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": read}
    event = {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": [{"const": "[DONE]"}, data]}}}
    return {200: {"content": {"text/event-stream": {"itemSchema": event}}, "description": "the answer; events where `stream` is true"}}


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions where they are used, since a page has one place for those of all routes."""
    definitions = schema.get("$defs", {})

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return filled({**definitions[value["$ref"].rpartition("/")[2]], **{key: one for key, one in value.items() if key != "$ref"}})
        return {key: filled(one) for key, one in value.items() if key not in ("$defs", "discriminator")}

    whole: dict[str, Any] = filled(schema)
    return whole


def _bounded(value: Any, service: Service) -> Any:
    if isinstance(value, list):
        return [_bounded(one, service) for one in value]
    if not isinstance(value, dict):
        return value
    bounds: dict[str, Any] = {}
    if value.get("format") == TOKEN_ID:
        bounds = {"maximum": service.model.config.vocab_size - 1}
    elif value.get("format") == MODEL_NAME:
        bounds = {"enum": list(service.names)}
    elif value.get("format") == VECTOR_SIZE:
        bounds = {"enum": [service.model.config.hidden_size]}
    return {**{key: _bounded(one, service) for key, one in value.items()}, **bounds}
