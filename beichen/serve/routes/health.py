"""``/health`` and ``/ready``: whether the engine lives, and whether it takes requests; asked by balancers, without a key."""

from __future__ import annotations

from fastapi import APIRouter, Response

from beichen.serve.service import Service

OPEN_PATHS = ("/health", "/ready")


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", response_class=Response, responses={503: {"description": "the engine has died"}})
    async def health() -> Response:
        """Whether the engine lives."""
        return Response(status_code=200 if service.worker.alive else 503)

    @router.get("/ready", response_class=Response, responses={503: {"description": "the queue is full, or the engine has died"}})
    async def ready() -> Response:
        """Whether requests are taken."""
        return Response(status_code=200 if service.ready else 503)

    return router
