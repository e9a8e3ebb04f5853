"""The HTTP interface over one service, put together: who may come in, what a fault looks like, which groups of paths there are.

Rules kept: a body is read by ``serve/schemas``, so that every fault names its field in the form that OpenAI's clients know; a client that
goes away ends its work; nothing of a prompt is ever logged here. A further group of paths is a file in ``serve/routes`` and a line here.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, Request, Response

from beichen import __version__
from beichen.errors import BeichenError, OverloadError, RequestError
from beichen.serve.access import Keys
from beichen.serve.exchange import answer_fault, answer_json
from beichen.serve.routes import embeddings, health, openai, page, tokens
from beichen.serve.schemas.base import error_body
from beichen.serve.service import Service

RETRY_SECONDS = 1


def create_app(service: Service, *, keys: Keys | None = None, allow_special: bool = False, ui: bool = False) -> FastAPI:
    """keys: who may ask. allow_special: whether raw completions may hold control tokens. ui: whether there is a chat page at ``/``."""
    known = keys or Keys()
    page_files = page.read_page() if ui else {}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="Beichen", version=__version__, lifespan=lifespan)

    @app.middleware("http")
    async def guard(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path not in health.OPEN_PATHS and request.url.path not in page_files:
            owner = known.owner(request.headers.get("authorization"))
            if owner is None:
                words = "a key is needed: Authorization: Bearer ..."
                return answer_fault(words, kind="authentication_error", code="invalid_api_key", status=401)
            request.state.owner = owner
        return await proceed(request)

    @app.exception_handler(BeichenError)
    async def refuse(request: Request, fault: BeichenError) -> Response:
        if isinstance(fault, OverloadError):
            refused = answer_fault(str(fault.args[0]), kind="rate_limit_error", code="overloaded", status=429)
            refused.headers["Retry-After"] = str(RETRY_SECONDS)
            return refused
        status = 404 if isinstance(fault, RequestError) and fault.code == "model_not_found" else 400
        return answer_json(error_body(fault), status=status)

    app.include_router(openai.routes(service, allow_special=allow_special))
    app.include_router(embeddings.routes(service))
    app.include_router(tokens.routes(service, allow_special=allow_special))
    app.include_router(health.routes(service))
    if ui:
        app.include_router(page.routes(page_files))
    return app
