"""A Chromium, and pages in it that must neither complain nor ask anybody but their own server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from beichen.serve.routes.page import HEADERS, read_page
from tests.chromium import MISSING, find_chromium
from tests.serve.page.scripted import PATIENCE

STILL = "http://still.test"  # the page's files without a server behind them
Visit = Callable[..., Page]


@pytest.fixture(scope="module")  # no longer: while it is open its event loop runs, and no other test of this process could have one
def chromium() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)  # a user's machine need not have a browser; CI installs one, so there it is a failure
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """``visit(url, **options of the context)`` opens the page as a browser of its own. Afterwards: no error, and no request elsewhere."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    hosts: set[tuple[str, str]] = set()

    def open_page(url: str, *, expect: tuple[str, ...] = (), context: BrowserContext | None = None, **options: Any) -> Page:
        """expect: what the console may complain about. context: a browser that is open already."""
        if context is None:
            context = chromium.new_context(**{"locale": "zh-CN", "viewport": {"width": 1200, "height": 800}, **options})
            context.set_default_timeout(PATIENCE)
            context.on("request", lambda request: hosts.add((urlsplit(url).netloc, urlsplit(request.url).netloc)))
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: _note(told.type, told.text, expect, complaints))
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(own == asked for own, asked in hosts)


def _note(kind: str, text: str, expected: tuple[str, ...], complaints: list[str]) -> None:
    if kind in ("error", "warning") and not any(words in text for words in expected):
        complaints.append(text)


@pytest.fixture(scope="module")
def still(chromium: Browser) -> Iterator[Page]:
    """The page without a server: its modules can be imported and asked, under its own policy."""
    context = chromium.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE)
    files = read_page()
    asked: list[str] = []

    def serve(route: Route) -> None:
        asked.append(route.request.url)
        file = files.get(urlsplit(route.request.url).path)
        if route.request.url.startswith(STILL) and file is not None:
            route.fulfill(body=file.content, content_type=file.media_type, headers=HEADERS)
        else:
            route.fulfill(status=200, content_type="application/json", body='{"data": [{"id": "none"}]}')

    context.route("**/*", serve)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    page.goto(STILL)
    page.wait_for_selector("body[data-ready]")
    yield page
    assert errors == []
    assert all(url.startswith(STILL) for url in asked)
    context.close()
