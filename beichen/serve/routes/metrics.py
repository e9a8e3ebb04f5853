"""``/metrics``: the service's figures, for Prometheus; with a key where there are keys."""

from __future__ import annotations

from fastapi import APIRouter, Response

from beichen.serve.metrics import MEDIA_TYPE
from beichen.serve.service import Service


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/metrics", response_class=Response, responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Times, queue, cache and counts, in Prometheus' text form."""
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    return router
