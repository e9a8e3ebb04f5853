"""One line for each request, as JSON or as text. Comes in: a finished record. Goes out: a line to whatever writes lines.

Rules: the line says who (the key's fingerprint, never the key), what, how much and how it ended, never a text of a prompt unless that was
asked for; a writer that does not take lines (a full pipe) never holds up a request: lines are then left out and counted.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from beichen.serve.records import RequestRecord

LogFormat = Literal["json", "text"]
MAX_HELD = 10_000  # lines that wait for their writer
_HEAD = ("time", "request_id", "method", "path", "status", "outcome")  # what a line of text begins with, bare


def fields_of(record: RequestRecord) -> dict[str, Any]:
    """The record as a line of JSON has it; what is not known is left out."""
    told: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": "info", "request_id": record.id, "method": record.method,
        "path": record.path, "status": record.status, "outcome": record.outcome, "key": record.key, "model": record.model,
        "seconds": round(time.perf_counter() - record.begun, 4),
        "first_token_seconds": None if record.first is None else round(record.first - record.begun, 4),
        "tokens_in": record.prompt_tokens or None, "tokens_out": record.answer_tokens if record.reasons else None,
        "finish_reason": ",".join(sorted(set(record.reasons))) or None, "fault": record.fault, "prompts": record.prompts,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value is not None}


def as_line(fields: dict[str, Any], form: LogFormat) -> str:
    """One line in either form, whatever the values hold."""
    if form == "json":
        return json.dumps(fields, ensure_ascii=False)
    head = [str(fields.get(name, "-")) for name in _HEAD]
    rest = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if name not in (*_HEAD, "level")]
    return " ".join([json.dumps(one)[1:-1] for one in head] + rest)


class RequestLog:
    """``tell`` returns at once; the lines are written in a thread of their own."""

    def __init__(self, write: Callable[[str], object], *, form: LogFormat = "text", prompts: bool = False) -> None:
        """write: takes whole lines with their end. prompts: whether the texts of prompts are told."""
        self.form, self.prompts = form, prompts
        self._write = write
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=MAX_HELD)
        self._left_out = 0
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def tell(self, record: RequestRecord) -> None:
        self.write(as_line(fields_of(record), self.form))

    def write(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._left_out += 1

    def close(self, *, timeout: float = 2.0) -> None:
        """Write what is held, if the writer takes it within so many seconds."""
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            left_out, self._left_out = self._left_out, 0
            try:
                if left_out:
                    self._write(
                        as_line({"level": "warning", "message": f"{left_out} lines were left out: the log was not read"}, self.form) + "\n"
                    )
                self._write(line + "\n")
            except (OSError, ValueError):  # whoever read the log is gone; requests are answered all the same
                self._left_out += 1


class ServerLines(logging.Handler):
    """What the HTTP library and the server itself have to say, in the same form and through the same thread."""

    def __init__(self, log: RequestLog) -> None:
        super().__init__()
        self._log = log
        self._plain = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            told["traceback"] = self._plain.formatException(record.exc_info)
        self._log.write(
            as_line(told, self._log.form) if self._log.form == "json" else f"{told['time']} {told['level']} {self._plain.format(record)}"
        )
