"""What a server lets in, and how long it waits for whom; every number is a flag of ``beichen serve`` or stands here with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Beyond a number a request is refused or dropped, its client told which one it was."""

    max_model_len: int | None = None  # tokens of prompt and answer; None: the trained length; never more than the cache holds
    max_waiting: int = 256  # answers
    max_streams_per_key: int | None = None  # answers of one key that run or wait; without keys, of one address. None: no bound of their own
    max_body_bytes: int = 8 << 20
    max_bodies_bytes: int = 128 << 20  # of all bodies that are held at a time, whoever sends them
    body_seconds: float = 30.0  # for a body to arrive
    queue_seconds: float = 300.0  # for the engine to begin
    request_seconds: float = 1800.0  # for a whole answer
    stall_seconds: float = 30.0  # for a client to take some of what was sent, or to send some of a request's head
    stream_interval: float = 0.04  # least seconds between two pieces of a stream: 25 a second look smooth, more take cores from the model
    max_backlog: int = 4096  # pieces of answers that wait for one client to take them
    shutdown_seconds: float = 30.0  # for what runs to end
