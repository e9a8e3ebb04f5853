"""What is known of one HTTP request while it is answered: for its line in the log and for the metrics.

The gate makes a record and tells it at the end; whatever works on the request in between finds it by ``current`` and adds what it learns.
Rule: no text of a prompt or an answer is kept here unless the log was asked for prompts.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from beichen.inference.api import FinishReason


@dataclass(kw_only=True)
class RequestRecord:
    """Times are those of ``time.perf_counter``."""

    id: str
    method: str
    path: str
    key: str | None = None  # the first letters of the key's digest
    begun: float = field(default_factory=time.perf_counter)
    status: int | None = None
    ended: bool = False  # whether the whole response was handed over
    fault: str | None = None  # its code or kind
    model: str | None = None
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first: float | None = None  # when the first piece of an answer came
    reasons: list[FinishReason] = field(default_factory=list)  # one for each answer that ended
    prompts: list[str] | None = None  # None: nobody asked for them

    @property
    def outcome(self) -> str:
        """One word of few: ok, cancelled (by the client), refused, overloaded, expired (a time-out), failed."""
        if self.status is None or self.status == CLIENT_GONE or (not self.ended and self.fault is None):
            return "cancelled"
        if self.fault in ("timeout", "queue_timeout", "body_timeout"):
            return "expired"
        if self.status in (429, 503):
            return "overloaded"
        if self.status >= 500 or (self.fault is not None and self.status < 400):
            return "failed"
        return "refused" if self.status >= 400 else "ok"


CLIENT_GONE = 499  # nobody reads this status; logs do
current: ContextVar[RequestRecord | None] = ContextVar("current", default=None)


def note_fault(code: str) -> None:
    """Why the request at hand ends otherwise than its client wished."""
    record = current.get()
    if record is not None:
        record.fault = record.fault or code
