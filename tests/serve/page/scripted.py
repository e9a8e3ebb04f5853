"""Answers that a test has written, as the server streams them; and an engine that takes a step when a test says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, Route

from beichen.inference.engine import Engine

PATIENCE = 120_000  # milliseconds; a starved machine is no fault of the page


def stream(
    content: str = "", *, thought: str = "", calls: Sequence[tuple[str, str]] = (), finish: str | None = None, cut: bool = False
) -> str:
    """The body of a streamed answer, a few letters an event. cut: it breaks off without an end."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": thought[at : at + 5]} for at in range(0, len(thought), 5)]
    deltas += [{"content": content[at : at + 5]} for at in range(0, len(content), 5)]
    for index, (name, arguments) in enumerate(calls):
        deltas.append(
            {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}]}
        )
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in arguments]
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if not cut:
        reason = finish or ("tool_calls" if calls else "stop")
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 42, "total_tokens": 49}})
    return "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events) + ("" if cut else "data: [DONE]\n\n")


class Script:
    """Answers chats with what it was given, in turn, and keeps what was asked."""

    def __init__(self, page: Page, *answers: str | dict[str, Any]) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        page.route("**/v1/chat/completions", self._answer)

    def _answer(self, route: Route) -> None:
        self.asked.append(json.loads(route.request.post_data or ""))
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            route.fulfill(body=answer, content_type="text/event-stream")
        else:
            route.fulfill(**answer)


def fault(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """An answer that refuses."""
    return {"status": status, "json": {"error": {"message": message, "type": "x", "param": None, "code": code}}}


class Pace:
    """Lets a model take as many steps as it is told, or all."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._steps = threading.Semaphore(0)
        self._free.set()

    def hold(self, *, steps: int = 0) -> None:
        """From now on only ``steps`` more."""
        self._free.clear()
        self.take(steps)

    def take(self, steps: int) -> None:
        for _ in range(steps):
            self._steps.release()

    def let_go(self) -> None:
        self._free.set()
        self._steps.release()
        while self._steps.acquire(blocking=False):
            pass

    @contextmanager
    def holding(self, *, steps: int = 0) -> Iterator[None]:
        self.hold(steps=steps)
        try:
            yield
        finally:
            self.let_go()

    def attach(self, engine: Engine) -> None:
        step = engine.step

        def paced() -> Any:
            while not self._free.is_set() and not self._steps.acquire(timeout=0.02):
                pass
            return step()

        vars(engine)["step"] = paced


# What a test does on the page.


def ask(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def until(page: Page, expression: str, argument: object = None) -> None:
    """Wait for what a script's expression says. It is asked from here: the page's own policy lets no text become a script, not even a
    test's that waits inside."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"in vain: {expression}"
        page.wait_for_timeout(20)


def ended(page: Page, *, answers: int = 1) -> None:
    """Wait until so many answers are shown and none is on its way."""
    until(
        page,
        "n => document.querySelectorAll('.turn.assistant').length === n && !document.querySelector('.running') "
        "&& !document.querySelector('#send').hidden",
        answers,
    )


def kept(page: Page) -> list[dict[str, Any]]:
    """The conversations that the browser keeps, the latest first."""
    found: list[dict[str, Any]] = page.evaluate("async () => (await import('./page/store.js')).conversations()")
    return found


def shown(page: Page, role: str = "assistant") -> list[str]:
    """The texts of the turns that are on the page."""
    return page.locator(f".turn.{role} {'.prose' if role == 'assistant' else '.bubble'}").all_inner_texts()
