"""A client of streamed completions that takes next to nothing of the cores it shares with the server: it looks at all its connections
together, now and then, and reads what has come without understanding it.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Streamed:
    """One answer as it came."""

    first: float = 0.0  # seconds until its first event
    seconds: float = 0.0  # until its end
    received: bytes = b""

    @property
    def tokens(self) -> int:
        """As the server counts them. Raises RuntimeError where it sent something else than an answer."""
        counted = re.findall(rb'"completion_tokens":\s*(\d+)', self.received)
        if not self.received.startswith(b"HTTP/1.1 200") or not counted:
            raise RuntimeError(self.received[:2000].decode(errors="replace"))
        return int(counted[-1])


def ask(port: int, prompts: Sequence[Sequence[int]], *, tokens: int, pause: float = 0.0) -> list[Streamed]:
    """Streamed greedy completions of ``tokens`` new tokens, all asked for at once. pause: seconds between two looks at the connections."""
    begin = time.perf_counter()
    answers = [Streamed() for _ in prompts]
    reading: dict[socket.socket, Streamed] = {}
    for answer, prompt in zip(answers, prompts, strict=True):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(_request(prompt, tokens))
        reading[connection] = answer
    while reading:
        for connection in select.select(list(reading), (), ())[0]:
            answer, part = reading[connection], connection.recv(1 << 20)
            answer.received += part
            answer.seconds = time.perf_counter() - begin
            if not answer.first and b"data: " in answer.received:
                answer.first = answer.seconds
            if not part:
                connection.close()
                del reading[connection]
        time.sleep(pause)
    return answers


def _request(prompt: Sequence[int], tokens: int) -> bytes:
    asked: dict[str, Any] = {
        "model": "bench", "prompt": list(prompt), "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/completions HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join([*head, "", ""]).encode() + body
