"""``/`` and ``/page/...``: the chat page, static files of ours that talk to the server's own OpenAI paths (``beichen serve --ui``).

Comes in: nothing but a name; the files are read once, at the start, so no path of a client ever reaches the disk. Rules: everything comes
from this server, by a policy that the browser enforces: no script but these files, no string made into markup (trusted types), no frame,
no request to any other host. The files hold no secret and are served without a key; what they ask for is not.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time, and answered by 304 as long as it is the same
}
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class PageFile(NamedTuple):
    content: bytes
    media_type: str
    tag: str  # ETag


def read_page() -> dict[str, PageFile]:
    """The files by their paths on the server."""
    files = {}
    for file in resources.files("beichen.serve").joinpath("page").iterdir():
        content = file.read_bytes()
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        files[path] = PageFile(content, MEDIA_TYPES[file.name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:24]}"')
    return files


def routes(files: dict[str, PageFile]) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def page(request: Request, name: str = "") -> Response:
        file = files.get(f"/page/{name}" if name else "/")
        if file is None:
            return Response(status_code=404)
        headers = {**HEADERS, "ETag": file.tag}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return router
