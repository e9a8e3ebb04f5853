"""The HTTP interface over one service, put together: the gate, what a fault looks like, which groups of paths there are.

Rules kept: a body is read by ``serve/schemas``, so that every fault names its field in the form that OpenAI's clients know; a client that
goes away ends its work. A further group of paths is a file in ``serve/routes`` and a line here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from beichen import __version__
from beichen.errors import BeichenError
from beichen.serve.access import Keys
from beichen.serve.description import told
from beichen.serve.gate import Gate
from beichen.serve.logs import RequestLog
from beichen.serve.proxy import UnderPath
from beichen.serve.records import RequestRecord
from beichen.serve.refusals import refusal, refuse_way
from beichen.serve.routes import embeddings, health, metrics, openai, originals, overview, page, tokens
from beichen.serve.service import Service


def create_app(
    service: Service, *, keys: Keys | None = None, allow_special: bool = False, ui: bool = False, log: RequestLog | None = None,
    root_path: str = "", original_paths: bool = False,
) -> FastAPI:  # fmt: skip
    """keys: who may ask. allow_special: whether raw completions may hold control tokens. ui: whether there is a chat page at ``/``.
    log: what is told of every request. root_path: under which a proxy in front shows all this, whether or not it takes it off.
    original_paths: whether the originals' own services are here, too."""
    page_files = page.read_page() if ui else {}
    open_paths = (*health.OPEN_PATHS, overview.ROOT, *page_files)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Beichen", version=__version__, lifespan=lifespan, responses=told(500),
        openapi_url=None,  # routes/overview.py has it; nor are there pages of it, which would fetch their scripts from elsewhere
    )  # fmt: skip
    guarded: dict[str, Any] = {"responses": told(401), "dependencies": [Depends(HTTPBearer(auto_error=False))]} if keys else {}

    def tell(record: RequestRecord) -> None:
        service.metrics.note_request(record, time.perf_counter() - record.begun)
        if log is not None:
            log.tell(record)

    app.add_middleware(
        Gate, limits=service.limits, keys=keys or Keys(), open_paths=[root_path + path for path in open_paths], tell=tell,
        prompts=log is not None and log.prompts,
    )  # fmt: skip

    if root_path:
        app.add_middleware(UnderPath, root_path=root_path)

    @app.exception_handler(BeichenError)
    async def refuse(request: Request, fault: BeichenError) -> Response:
        return refusal(fault)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_such_way(request: Request, fault: HTTPException) -> Response:
        return refuse_way(request, fault, paths)

    routers = [
        (openai.routes(service, allow_special=allow_special), guarded),
        (embeddings.routes(service), guarded),
        (tokens.routes(service, allow_special=allow_special), guarded),
        (health.routes(service), {}),
        (metrics.routes(service), guarded),
        (overview.routes(app.openapi, page=ui), {}),
        *([(originals.routes(service), guarded)] if original_paths else []),
        *([(page.routes(page_files), {})] if ui else []),
    ]
    for router, more in routers:
        app.include_router(router, **more)
    paths = [route.path for router, _ in routers for route in router.routes if isinstance(route, APIRoute) and "{" not in route.path]
    return app
