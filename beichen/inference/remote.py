"""A dialogue with any server of OpenAI's interface: what ``beichen chat --url`` talks to.

In: what the user says. Out: deltas as they come over the wire, thoughts and tool calls beside the text. The standard library alone carries
them. Rule: whatever a server does wrong (refuses, breaks off, sends something else) is a ``ServerError`` that repeats its own words.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from beichen.errors import ServerError, nearest
from beichen.inference.api import Delta, FinishReason

SECONDS = 600.0  # without a byte; a long prompt is read before the first comes
_SENT_AS = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
_BODY_MOST = 400  # letters of an answer that is no answer


@dataclass(frozen=True, kw_only=True)
class RemoteDelta(Delta):
    """A delta of text, of a thought, or of a tool call: its name comes first, then pieces of its arguments."""

    thought: str = ""
    call_name: str = ""
    call_arguments: str = ""
    tokens: int | None = None  # of the whole answer, where the server counts them at its end


class Endpoint:
    """A server: its address up to ``/v1``, and the key that it asks for. Raises ServerError where it is not reached, refuses, or answers
    otherwise than OpenAI's interface does."""

    def __init__(self, url: str, *, key: str | None = None, seconds: float = SECONDS) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServerError(f"{url}: expected an address that begins with http:// or https://", remedy="http://127.0.0.1:8000/v1")
        self.url, self._key, self._seconds = url.rstrip("/"), key, seconds

    def models(self) -> list[str]:
        """The names that it answers to."""
        with self._open("/models", None) as response:
            told = self._json(response.read().decode("utf-8", "replace"))
        try:
            return [str(one["id"]) for one in told["data"]]
        except (TypeError, KeyError) as fault:
            raise ServerError(f"{self.url}/models: {str(told)[:_BODY_MOST]}", remedy="does the address end in /v1?") from fault

    def choose(self, name: str | None) -> str:
        """The model of that name, or the first one. Raises ServerError where it has none, or not that."""
        names = self.models()
        if name is not None and names and name not in names:
            raise ServerError(f"{self.url} has no model '{name}'{nearest(name, names)}", remedy=f"it has: {', '.join(names)}")
        if name is None and not names:
            raise ServerError(f"{self.url} names no model", remedy="--model NAME")
        return name or names[0]

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The server-sent events of an answer; closing the iterator hangs up."""
        with self._open(path, body) as response:
            kind = response.headers.get("Content-Type", "")
            if "text/event-stream" not in kind:
                raise ServerError(f"{self.url}: expected a stream of events, got {kind}: {_words(response.read(_BODY_MOST))}")
            try:
                for line in response:
                    if line.startswith(b"data:"):
                        text = line[5:].strip().decode("utf-8", "replace")
                        if text == "[DONE]":
                            return
                        event = self._json(text)
                        if isinstance(event, dict) and "error" in event:
                            raise ServerError(f"{self.url}: {_message(event)}")
                        yield event
            except (OSError, HTTPException) as fault:
                raise ServerError(f"{self.url}: the answer was broken off ({fault})") from fault

    def _open(self, path: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "*/*"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        try:
            request = urllib.request.Request(self.url + path, data, headers)
            return urllib.request.urlopen(request, timeout=self._seconds)
        except urllib.error.HTTPError as fault:
            remedy = {401: "--api-key-file FILE gives its key", 404: "does the address end in /v1?"}.get(fault.code)
            raise ServerError(f"{self.url}: status {fault.code}: {_words(fault.read(1 << 16))}", remedy=remedy) from fault
        except (OSError, HTTPException, ValueError) as fault:
            reason = getattr(fault, "reason", fault)
            raise ServerError(f"{self.url} cannot be reached: {reason}", remedy="is the server running, and the address right?") from fault

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as fault:
            raise ServerError(f"{self.url}: expected JSON, got {text[:_BODY_MOST]!r}", remedy="does the address end in /v1?") from fault


class RemoteConversation:
    """``ask`` and read the answer, as with a conversation of our own; what a tool answers is said by ``ask`` too, while calls wait."""

    def __init__(
        self, endpoint: Endpoint, model: str, *, system: str | None = None, tools: Sequence[Mapping[str, Any]] = (), **settings: Any
    ) -> None:
        """settings: those of ``LanguageModel.request`` that stand in a request's body, and ``thinking``."""
        self.endpoint, self.model_name = endpoint, model
        self.dropped = 0
        self._body = {"model": model, **_as_fields(settings)} | ({"tools": list(tools)} if tools else {})
        self.start_over(system=system)

    @property
    def title(self) -> str:
        """Who answers."""
        return f"{self.model_name} at {self.endpoint.url}."

    def start_over(self, *, system: str | None = None) -> None:
        """Forget what was said."""
        self.system = system
        self.messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self.waiting: list[dict[str, Any]] = []  # calls whose results are still to be said

    def ask(self, text: str) -> Iterator[Delta]:
        """Say something, or the result of the first call that waits, and read the answer."""
        if not self.waiting:
            return self._answer({"role": "user", "content": text})
        call = self.waiting.pop(0)
        result = {"role": "tool", "tool_call_id": call["id"], "content": text}
        if not self.waiting:
            return self._answer(result)
        self.messages.append(result)
        return iter([Delta(text="", finish_reason="stop")])

    def _answer(self, message: dict[str, Any]) -> Iterator[Delta]:
        sent = [*self.messages, message]
        body = {**self._body, "messages": sent, "stream": True, "stream_options": {"include_usage": True}}
        said, calls, reason, tokens = "", list[dict[str, Any]](), None, None
        taken = False
        try:
            for event in self.endpoint.events("/chat/completions", body):
                taken = True
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                for choice in event.get("choices") or ():
                    reason = choice.get("finish_reason") or reason
                    delta = choice.get("delta") or {}
                    said += delta.get("content") or ""
                    thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
                    if delta.get("content") or thought:
                        yield RemoteDelta(text=delta.get("content") or "", thought=thought)
                    for piece in delta.get("tool_calls") or ():
                        yield _called(calls, piece)
            if reason is None:
                raise ServerError(f"{self.endpoint.url}: the answer was broken off: the stream ended without a finish_reason")
            ended: FinishReason = "length" if reason == "length" else "stop"
            yield RemoteDelta(text="", tokens=tokens, finish_reason=ended)
        finally:
            if taken:  # also what was broken off has been said
                kept: dict[str, Any] = {"role": "assistant", "content": said or (None if calls and reason else "")}
                self.messages = [*sent, kept]
                if calls and reason is not None:
                    kept["tool_calls"] = calls
                    self.waiting = list(calls)


def _called(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> RemoteDelta:
    """Put a piece of a call where it belongs."""
    index, function = int(piece.get("index") or 0), piece.get("function") or {}
    while len(calls) <= index:
        calls.append({"id": f"call_{len(calls)}", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    call["id"] = piece.get("id") or call["id"]
    name, arguments = function.get("name") or "", function.get("arguments") or ""
    call["function"]["name"] += name
    call["function"]["arguments"] += arguments
    return RemoteDelta(text="", call_name=name, call_arguments=arguments)


def _as_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a request's body has them."""
    fields = {_SENT_AS.get(name, name): value for name, value in settings.items() if value is not None}
    thinking, constraint = fields.pop("thinking", None), fields.pop("constraint", None)
    if thinking is not None:
        fields["chat_template_kwargs"] = {"enable_thinking": thinking}
    if constraint is not None and constraint.regex is not None:
        fields["structured_outputs"] = {"regex": constraint.regex}
    elif constraint is not None:
        fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": constraint.json_schema}}
    return fields


def _words(body: bytes) -> str:
    """What a body says: OpenAI's error, another's detail, or its beginning."""
    text = body.decode("utf-8", "replace")
    try:
        return _message(json.loads(text))
    except ValueError:
        return text[:_BODY_MOST].strip() or "nothing more"


def _message(value: Any) -> str:
    if isinstance(value, dict):
        for key in ("error", "message", "detail"):
            if key in value:
                return _message(value[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:_BODY_MOST]
