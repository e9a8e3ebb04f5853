"""``/health`` and ``/ready``: whether the engine lives, and whether it takes requests; asked by balancers, without a key."""

from __future__ import annotations

from fastapi import APIRouter, Response

from beichen.serve.service import Service

OPEN_PATHS = ("/health", "/ready")


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if service.worker.alive else 503)

    @router.get("/ready")
    async def ready() -> Response:
        return Response(status_code=200 if service.worker.alive and service.worker.waiting < service.limits.max_waiting else 503)

    return router
