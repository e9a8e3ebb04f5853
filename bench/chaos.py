"""Clients that misbehave, against any server of OpenAI's interface: they leave at any moment, read slowly, and send what means nothing.

``rampage`` is the whole of it: so many requests from so many clients over real sockets, by hand, since no client's library lets go of a
connection as a crash does. Law: a server answers with what it may answer (``ANNOUNCED``), never else; a stream that is read to its end ends
as streams do. What the server holds afterwards is the caller's to look at.

python -m bench.chaos http://127.0.0.1:8000 --model small --requests 2000 --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

ANNOUNCED = {200, 400, 404, 405, 408, 413, 429}
PATIENCE = 120  # seconds that one read may take before the server counts as hanging
_SLOW_WINDOW = 2048  # bytes that a slow reader's system takes before it is read


@dataclass
class Findings:
    """What came of it: how often each way of behaving had which end, and what should not have been."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    host: str
    port: int
    model: str


async def rampage(target: Target, *, requests: int, clients: int, seed: int) -> Findings:
    """All of it; reproducible as far as the machine's own timing is."""
    findings = Findings()
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            rng = random.Random(f"{seed}/{number}")
            way = rng.choice(list(_WAYS))
            try:
                end = await _WAYS[way](target, rng)
            except (ConnectionError, asyncio.IncompleteReadError):
                end = "cut"  # by the server, as it may for what is no HTTP
                if way not in ("no_http", "too_large", "half_a_body"):
                    findings.faults.append(f"{way}: the server cut the connection")
            except (UnannouncedError, TimeoutError) as fault:
                end = "FAULT"
                findings.faults.append(f"{way}: {fault or 'nothing came for a long time'}")
            findings.ends[f"{way}: {end}"] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return findings


class UnannouncedError(Exception):
    """Something that no client was told to expect."""


async def read_all(target: Target, rng: random.Random) -> str:
    """A client that behaves."""
    async with _sent(target, rng) as (reader, _, body):
        return await _read_answer(reader, stream=body["stream"])


async def leave_at_once(target: Target, rng: random.Random) -> str:
    """During admission: before anything was answered."""
    async with _sent(target, rng) as (_, writer, _):
        _vanish(writer, rng)
        return "left"


async def leave_while_read(target: Target, rng: random.Random) -> str:
    """While the prompt is read, or waits."""
    async with _sent(target, rng, long_prompt=True) as (_, writer, _):
        await asyncio.sleep(rng.uniform(0, 0.05))
        _vanish(writer, rng)
        return "left"


async def leave_in_the_middle(target: Target, rng: random.Random) -> str:
    """While the answer is written: half of it is read."""
    async with _sent(target, rng, stream=True) as (reader, writer, _):
        status, _ = await _head(reader)
        if status != 200:
            return str(status)
        for _ in range(rng.randrange(1, 40)):
            if not await _line(reader):
                break
        _vanish(writer, rng)
        return "left"


async def read_slowly(target: Target, rng: random.Random) -> str:
    """A small window and pauses; goes on to the end, or tires of it."""
    tires = rng.random() < 0.5
    async with _sent(target, rng, stream=True, window=_SLOW_WINDOW) as (reader, writer, _):
        status, _ = await _head(reader)
        if status != 200:
            return str(status)
        for _ in range(rng.randrange(1, 8)):
            await asyncio.sleep(rng.uniform(0, 0.1))
            await asyncio.wait_for(reader.read(512), PATIENCE)
        if tires:
            _vanish(writer, rng)
            return "left"
        await asyncio.wait_for(reader.read(), PATIENCE)
        return "200"


async def bad_body(target: Target, rng: random.Random) -> str:
    """What is no request: no JSON, no such field, model, path or method."""
    repeated = {"model": target.model, "prompt": "a", "structured_outputs": {"regex": "((a{100}){100}){100}"}}
    path, body = rng.choice([
        ("/v1/chat/completions", b"{"), ("/v1/chat/completions", b"\xff\xfe"), ("/v1/completions", b'{"model": 1}'),
        ("/v1/completions", b"[" * 50_000), ("/v1/chat/completions", b'{"model": "none", "messages": [{"role": "user", "content": "a"}]}'),
        ("/v1/nothing", b"{}"), ("/health", b"{}"),
        ("/v1/completions", json.dumps(repeated).encode()),
        ("/v1/completions", json.dumps({"model": target.model, "prompt": "a" * 200_000}).encode()),
    ])  # fmt: skip
    async with _connected(target) as (reader, writer):
        writer.write(_request(path, body))
        status, length = await _head(reader)
        if status == 200:
            raise UnannouncedError(f"{path} takes {body[:60]!r}")
        await asyncio.wait_for(reader.readexactly(length or 0), PATIENCE)
        return str(status)


async def too_large(target: Target, rng: random.Random) -> str:
    """A body that says it is larger than any server takes."""
    async with _connected(target) as (reader, writer):
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999\r\n\r\n" + b" " * rng.randrange(1000))
        status, _ = await _head(reader)
        if status != 413:
            raise UnannouncedError(f"status {status} for a body of 100 GB")
        return "413"


async def half_a_body(target: Target, rng: random.Random) -> str:
    """A body of which the rest never comes."""
    async with _connected(target) as (_, writer):
        whole = _request("/v1/completions", json.dumps({"model": target.model, "prompt": "a" * 1000}).encode())
        writer.write(whole[: rng.randrange(10, len(whole))])
        await asyncio.sleep(rng.uniform(0, 0.05))
        _vanish(writer, rng)
        return "left"


async def no_http(target: Target, rng: random.Random) -> str:
    """Bytes of no protocol."""
    async with _connected(target) as (reader, writer):
        writer.write(rng.randbytes(rng.randrange(1, 2000)) + b"\r\n\r\n")
        writer.write_eof()
        await asyncio.wait_for(reader.read(), PATIENCE)
        return "told"


_WAYS = {one.__name__: one for one in (
    read_all, leave_at_once, leave_while_read, leave_in_the_middle, read_slowly, bad_body, too_large, half_a_body, no_http)}  # fmt: skip


@contextlib.asynccontextmanager
async def _connected(target: Target, window: int | None = None) -> Any:
    own = socket.socket(socket.AF_INET6 if ":" in target.host else socket.AF_INET)
    if window is not None:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    own.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(own, (target.host, target.port)), PATIENCE)
        reader, writer = await asyncio.open_connection(sock=own, limit=1 << 20)
    except BaseException:
        own.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):  # it is gone already
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def _sent(
    target: Target, rng: random.Random, *, stream: bool | None = None, long_prompt: bool = False, window: int | None = None
) -> Any:
    """A request that is in order, on its way."""
    text = "".join(rng.choices("天气很好公园一二三四", k=rng.randrange(160, 240) if long_prompt else rng.randrange(2, 40)))
    body: dict[str, Any] = {
        "model": target.model, "max_tokens": rng.randrange(1, 150), "temperature": 1.0, "seed": rng.randrange(1000),
        "stream": rng.random() < 0.6 if stream is None else stream, "n": rng.choice([1, 1, 1, 2]),
    }  # fmt: skip
    if rng.random() < 0.1:
        body["structured_outputs"] = {"regex": rng.choice(["[a-z]{5,60}", "(好|天)+"])}
    path = rng.choice(["chat/completions", "completions"])
    body |= {"prompt": text} if path == "completions" else {"messages": [{"role": "user", "content": text}]}
    async with _connected(target, window) as (reader, writer):
        writer.write(_request(f"/v1/{path}", json.dumps(body).encode()))
        yield reader, writer, body


def _request(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _vanish(writer: asyncio.StreamWriter, rng: random.Random) -> None:
    """As a crash does (a reset), or as a program that ends."""
    if rng.random() < 0.5:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readline(), PATIENCE)


async def _head(reader: asyncio.StreamReader) -> tuple[int, int | None]:
    """Status and length of the response; what follows is its body."""
    first = await _line(reader)
    if not first:
        raise ConnectionResetError
    length = None
    while (line := await _line(reader)).strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    status = int(first.split()[1])
    if status not in ANNOUNCED:
        raise UnannouncedError(f"status {status}")
    return status, length


async def _read_answer(reader: asyncio.StreamReader, *, stream: bool) -> str:
    status, length = await _head(reader)
    if status not in (200, 429):
        raise UnannouncedError(f"status {status} for a request in order: {await reader.readexactly(length or 0)!r}")
    if stream and status == 200:
        text = await asyncio.wait_for(reader.read(), PATIENCE)
        if b"data: [DONE]" not in text or b'"error"' in text:
            raise UnannouncedError(f"a stream ends with {text[-300:]!r}")
    else:
        answer = json.loads(await asyncio.wait_for(reader.readexactly(length or 0), PATIENCE))
        if status == 200 and not all(choice["finish_reason"] for choice in answer["choices"]):
            raise UnannouncedError(f"an answer without an end: {answer}")
    return str(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    place = urlsplit(given.url)
    begun = time.monotonic()
    target = Target(place.hostname or "127.0.0.1", place.port or 80, given.model)
    findings = asyncio.run(rampage(target, requests=given.requests, clients=given.clients, seed=given.seed))
    for end, count in sorted(findings.ends.items()):
        print(f"{count:6}  {end}")
    print(f"{given.requests} requests from {given.clients} clients in {time.monotonic() - begun:.1f} s, {len(findings.faults)} faults")
    print(*findings.faults[:20], sep="\n")
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
