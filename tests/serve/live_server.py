"""A server on a free port of this machine, over a small random model, for tests that come as clients do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from beichen.inference.language_model import LanguageModel
from beichen.serve.access import Keys
from beichen.serve.app import create_app
from beichen.serve.limits import Limits
from beichen.serve.running import Server
from beichen.serve.service import Service


@dataclass
class Live:
    url: str
    service: Service
    end: Callable[[], None]  # begin to end, as a signal does


def refuse_second(number: int) -> None:
    raise AssertionError(f"signal {number} came a second time")


@contextmanager
def live_server(
    model: LanguageModel, *, name: str = "small", keys: tuple[str, ...] = (), limits: Limits | None = None, **made: Any
) -> Iterator[Live]:
    """Up when it is entered; shut down, all answers ended, when it is left. made: further arguments of ``create_app``."""
    service = Service(model, name, limits=limits)
    app = create_app(service, keys=Keys(keys), **{"allow_special": True, **made})
    server = Server(app, service, at_once=refuse_second, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Live(f"http://127.0.0.1:{port}", service, server.end_soon)
    finally:
        server.end_soon()
        thread.join(120)
        assert not thread.is_alive() and not service.worker.alive
