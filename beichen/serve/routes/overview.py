"""``/openapi.json``, and ``/`` where no page stands there: what the server has, for whoever knocks first.

Rule: the description takes a second to build, once, and is built in a thread, so that no stream that runs waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

ROOT = "/"


def routes(describe: Callable[[], dict[str, Any]], *, page: bool) -> APIRouter:
    """describe: all that ``/openapi.json`` says, but for the path of a proxy. page: whether ``/`` is a page's."""
    router = APIRouter(include_in_schema=False)
    building = threading.Lock()

    @router.get("/openapi.json")
    def openapi(request: Request) -> Response:  # no coroutine: FastAPI calls it in a thread
        with building:
            description = describe()
        root = request.scope.get("root_path", "")
        return JSONResponse({**description, "servers": [{"url": root}]} if root else description)

    if not page:

        @router.api_route(ROOT, methods=["GET", "HEAD"])
        async def overview(request: Request) -> Response:
            root = request.scope.get("root_path", "")
            paths = {"api": f"{root}/v1", "description": f"{root}/openapi.json", "health": f"{root}/health"}
            return JSONResponse({**paths, "page": "beichen serve --ui shows a chat page here"})

    return router
