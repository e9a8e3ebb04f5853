"""Dialogues with another server, on a scripted one: what it says, and all that it may do wrong."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from beichen.errors import ServerError
from beichen.inference.api import Constraint
from beichen.inference.remote import Endpoint, RemoteConversation, RemoteDelta


class Script(ThreadingHTTPServer):
    """Answers every post with ``status``, ``kind`` and ``body``, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.kind, self.body = 200, "text/event-stream; charset=utf-8", b""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def say(self, *events: Any, done: bool = True) -> None:
        texts = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
        self.status, self.kind = 200, "text/event-stream"
        self.body = "".join(f": ping\ndata: {text}\n\n" for text in texts + ["[DONE]"] * done).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Script

    def do_GET(self) -> None:
        self._send(200, "application/json", b'{"object": "list", "data": [{"id": "telechat"}, {"id": "other"}]}')

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send(self.server.status, self.server.kind, self.server.body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def script() -> Iterator[Script]:
    server = Script()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def piece(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def test_a_dialogue_goes_on(script):
    conversation = RemoteConversation(Endpoint(script.url, key="secret"), "telechat", system="s", max_new_tokens=9, temperature=0.5)
    script.say(piece(role="assistant", content=""), piece(reasoning_content="想"), piece(content="你"), piece(content="好🙂"),
               piece("stop"), {"choices": [], "usage": {"completion_tokens": 4}})  # fmt: skip
    deltas = [delta for delta in conversation.ask("hi") if isinstance(delta, RemoteDelta)]
    assert "".join(delta.text for delta in deltas) == "你好🙂" and "".join(delta.thought for delta in deltas) == "想"
    assert (deltas[-1].finish_reason, deltas[-1].tokens) == ("stop", 4)
    script.say(piece("length", content="more"))
    assert list(conversation.ask("再说"))[-1].finish_reason == "length"
    assert script.asked[1]["messages"] == [
        {"role": "system", "content": "s"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "你好🙂"},
        {"role": "user", "content": "再说"},
    ]  # fmt: skip
    assert script.asked[0]["max_tokens"] == 9 and script.asked[0]["temperature"] == 0.5 and script.asked[0]["stream"] is True
    assert set(script.keys) == {"Bearer secret"}
    conversation.start_over(system="t")
    assert conversation.messages == [{"role": "system", "content": "t"}]


def test_calls_are_answered_by_the_user(script):
    conversation = RemoteConversation(Endpoint(script.url), "telechat", tools=[{"type": "function", "function": {"name": "f"}}])
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}, {"index": 0, "function": {"arguments": '{"x":'}},
             {"index": 0, "function": {"arguments": "1}"}},
             {"index": 1, "id": "b", "function": {"name": "f", "arguments": "{}"}}]  # fmt: skip
    script.say(*(piece(tool_calls=[call]) for call in calls), piece("tool_calls"))
    said = [delta for delta in conversation.ask("do") if isinstance(delta, RemoteDelta)]
    assert [(delta.call_name, delta.call_arguments) for delta in said[:4]] == [("f", ""), ("", '{"x":'), ("", "1}"), ("f", "{}")]
    assert [call["id"] for call in conversation.waiting] == ["a", "b"]
    list(conversation.ask("one"))
    script.say(piece("stop", content="done"))
    assert "".join(delta.text for delta in conversation.ask("two")) == "done" and len(script.asked) == 2
    assistant, *results = script.asked[1]["messages"][1:]
    assert assistant["content"] is None and assistant["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert [(one["tool_call_id"], one["content"]) for one in results] == [("a", "one"), ("b", "two")]


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (401, "application/json", '{"error": {"message": "Invalid API key"}}', "status 401: Invalid API key"),
        (429, "application/json", '{"detail": "busy"}', "status 429: busy"),
        (500, "text/plain", "上游错误", "status 500: 上游错误"),
        (404, "text/html", "", "status 404: nothing more"),
        (200, "application/json", '{"message": "no streams here"}', "expected a stream of events, got application/json: no streams here"),
        (200, "text/event-stream", "data: {oops\n\n", "expected JSON, got '{oops'"),
        (200, "text/event-stream", 'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        (200, "text/event-stream", 'data: {"choices": [{"delta": {"content": "half"}}]}\n\n', "without a finish_reason"),
        (200, "text/event-stream", "", "without a finish_reason"),
    ],
)
def test_what_a_server_does_wrong_is_said_in_its_words(script, status, kind, body, said):
    script.status, script.kind, script.body = status, kind, body.encode()
    conversation = RemoteConversation(Endpoint(script.url), "telechat")
    with pytest.raises(ServerError, match=re.escape(said)):
        list(conversation.ask("hi"))
    assert conversation.messages in ([], [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "half"}])


def test_what_was_broken_off_stays_in_the_dialogue(script):
    script.say(piece(content="a"), piece(content="b"), piece("stop"))
    conversation = RemoteConversation(Endpoint(script.url), "telechat")
    answer = conversation.ask("hi")
    assert next(answer).text == "a"
    del answer
    assert conversation.messages[-1] == {"role": "assistant", "content": "a"}


def test_the_address_and_the_model(script):
    endpoint = Endpoint(script.url + "/")
    assert endpoint.models() == ["telechat", "other"] and endpoint.choose(None) == "telechat" and endpoint.choose("other") == "other"
    with pytest.raises(ServerError, match="no model 'telechta' \\(did you mean 'telechat'"):
        endpoint.choose("telechta")
    with pytest.raises(ServerError, match="begins with http"):
        Endpoint("127.0.0.1:8000")
    port = script.server_address[1]
    script.shutdown()
    script.server_close()
    with pytest.raises(ServerError, match="cannot be reached"):
        Endpoint(f"http://127.0.0.1:{port}/v1", seconds=5).models()


def test_constraints_and_thinking_have_their_fields(script):
    script.say(piece("stop"))
    for settings in ({"constraint": Constraint(regex="a+"), "thinking": False}, {"constraint": Constraint(json_schema={"type": "object"})}):
        list(RemoteConversation(Endpoint(script.url), "m", **settings).ask("x"))
    assert script.asked[0]["structured_outputs"] == {"regex": "a+"}
    assert script.asked[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert script.asked[1]["response_format"]["json_schema"]["schema"] == {"type": "object"}
