"""Behind a proxy that shows the server under a path of its own, whether or not the proxy takes that path off again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


class UnderPath:
    """Gives every request the path that clients see, so that routes and the page of the interface agree with it."""

    def __init__(self, app: Application, root_path: str) -> None:
        """root_path: ``/like/this``"""
        self._app, self._root = app, root_path

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            seen = path if path.startswith(f"{self._root}/") else self._root + path
            scope = {**scope, "root_path": self._root, "path": seen}
        await self._app(scope, receive, send)
