"""The gate that every HTTP request goes through: its id, its key, its size and time of arrival, its line in the log and in the metrics.

An ASGI application around another. Rules: nobody comes in without a key where there are keys; a body that is too large or too slow is
never held; every response names its request (``X-Request-Id``); the record is told once, however the request ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any

from fastapi.datastructures import Headers

from beichen.errors import BeichenError, OverloadError, RequestError
from beichen.serve.access import Keys
from beichen.serve.limits import Limits
from beichen.serve.records import RequestRecord, current
from beichen.serve.refusals import refusal, refuse_key, refuse_unforeseen

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Tell = Callable[[RequestRecord], None]
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DRAINED = 4  # bodies of so many times the allowed size are read to their end and thrown away, so that their clients read the refusal


@dataclass
class _Held:
    """Bytes of bodies that are in memory, of all requests."""

    bytes: int = 0


class Gate:
    """Around ``app``. ``open_paths`` need no key. ``tell`` gets each record at the end; ``prompts``: whether it is to hold prompts."""

    def __init__(self, app: App, *, limits: Limits, keys: Keys, open_paths: Collection[str], tell: Tell, prompts: bool = False) -> None:
        self._app, self._limits, self._keys, self._open_paths = app, limits, keys, frozenset(open_paths)
        self._tell, self._prompts = tell, prompts
        self._held = _Held()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(raw=scope["headers"])
        record = RequestRecord(id=_request_id(headers.get("x-request-id")), method=scope["method"], path=_own_path(scope))
        record.prompts = [] if self._prompts else None
        token = current.set(record)
        sending = _Sending(send, record)
        body = _Body(receive, self._limits, self._held, sending)
        try:
            app = self._enter(scope, headers, record, body)
            await app(scope, body.receive, sending)
        except Exception as fault:
            if body.broken_off:  # the client is gone, which ends whatever read its body
                return
            record.fault = type(fault).__name__  # the client is told that there was one, the log all of it
            logging.getLogger(__name__).exception("request %s failed", record.id)
            if record.status is not None:
                raise  # the response has begun: it can only be broken off
            await refuse_unforeseen()(scope, receive, sending)
        finally:
            body.release()
            current.reset(token)
            self._tell(record)

    def _enter(self, scope: MutableMapping[str, Any], headers: Headers, record: RequestRecord, body: _Body) -> App:
        """What answers: the application, or a refusal."""
        state = scope.setdefault("state", {})
        state["owner"] = ""
        if scope["path"] in self._open_paths:
            return self._app
        owner = self._keys.owner(headers.get("authorization"))
        if owner is None:
            return refuse_key(headers.get("authorization"))
        record.key = owner or None
        client = scope.get("client")
        state["owner"] = owner or (f"address {client[0]}" if client else "")
        try:
            body.announce(headers.get("content-length"))
        except BeichenError as fault:
            return refusal(fault)
        return self._app


class _Sending:
    """What goes out, noted in the record, with the request's id."""

    def __init__(self, send: Send, record: RequestRecord) -> None:
        self._send, self._record = send, record
        self.last = False  # whether the connection is to end behind this response

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._record.status = message["status"]
            own = [(b"x-request-id", self._record.id.encode()), *([(b"connection", b"close")] if self.last else [])]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._record.ended = True


class _Body:
    """What comes in, of bounded size and within its time."""

    def __init__(self, receive: Receive, limits: Limits, held: _Held, sending: _Sending) -> None:
        self._receive, self._limits, self._held, self._sending = receive, limits, held, sending
        self._until = time.monotonic() + limits.body_seconds
        self._size = self._counted = 0
        self._whole = False
        self.broken_off = False  # whether the client went away before its body was whole

    def announce(self, length: str | None) -> None:
        """Refuse what says itself that it is too large."""
        if length is not None and length.isdecimal() and int(length) > self._limits.max_body_bytes:
            raise self._too_large(int(length))

    async def receive(self) -> Message:
        if self._whole:  # only the client's going away is left to come
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError as fault:
            self._sending.last = True
            words = f"the body did not arrive within {self._limits.body_seconds:g} seconds"
            raise RequestError(words, code="body_timeout") from fault
        if message["type"] == "http.request":
            self._whole = not message.get("more_body", False)
            self._size += len(message.get("body", b""))
            self._check(self._size)
        else:
            self.broken_off = True
        return message

    def _check(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            raise self._too_large(size)
        if self._held.bytes + size - self._counted > self._limits.max_bodies_bytes:
            self._sending.last = True
            raise OverloadError("too many large requests at a time", remedy="try again a little later")
        self._held.bytes += size - self._counted
        self._counted = size

    def _too_large(self, size: int) -> RequestError:
        self._sending.last = size > _DRAINED * self._limits.max_body_bytes
        words = f"the body is larger than {self._limits.max_body_bytes} bytes, the most that this server takes"
        return RequestError(words, code="body_too_large")

    def release(self) -> None:
        self._held.bytes -= self._counted
        self._counted = 0


def _own_path(scope: MutableMapping[str, Any]) -> str:
    """Without that of a proxy in front."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _request_id(given: str | None) -> str:
    """The client's own where it is short and plain, so that both sides' logs can be laid beside each other."""
    return given if given is not None and _SANE_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
