"""The HTTP interface over one service, put together: the gate, what a fault looks like, which groups of paths there are.

Rules kept: a body is read by ``serve/schemas``, so that every fault names its field in the form that OpenAI's clients know; a client that
goes away ends its work. A further group of paths is a file in ``serve/routes`` and a line here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response

from beichen import __version__
from beichen.errors import BeichenError
from beichen.serve.access import Keys
from beichen.serve.gate import Gate
from beichen.serve.logs import RequestLog
from beichen.serve.records import RequestRecord
from beichen.serve.refusals import refusal
from beichen.serve.routes import embeddings, health, metrics, openai, page, tokens
from beichen.serve.service import Service


def create_app(
    service: Service, *, keys: Keys | None = None, allow_special: bool = False, ui: bool = False, log: RequestLog | None = None
) -> FastAPI:
    """keys: who may ask. allow_special: whether raw completions may hold control tokens. ui: whether there is a chat page at ``/``.
    log: what is told of every request."""
    page_files = page.read_page() if ui else {}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="Beichen", version=__version__, lifespan=lifespan)

    def tell(record: RequestRecord) -> None:
        service.metrics.note_request(record, time.perf_counter() - record.begun)
        if log is not None:
            log.tell(record)

    app.add_middleware(
        Gate, limits=service.limits, keys=keys or Keys(), open_paths=(*health.OPEN_PATHS, *page_files), tell=tell,
        prompts=log is not None and log.prompts,
    )  # fmt: skip

    @app.exception_handler(BeichenError)
    async def refuse(request: Request, fault: BeichenError) -> Response:
        return refusal(fault)

    app.include_router(openai.routes(service, allow_special=allow_special))
    app.include_router(embeddings.routes(service))
    app.include_router(tokens.routes(service, allow_special=allow_special))
    app.include_router(health.routes(service))
    app.include_router(metrics.routes(service))
    if ui:
        app.include_router(page.routes(page_files))
    return app
