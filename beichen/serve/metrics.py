"""Figures for Prometheus (``/metrics``), in a registry of each service's own.

Rules: what an engine counts anyway is read when somebody asks, so that it costs the engine nothing; what an answer took is noted once, at
its end; labels are names that the server gave itself, never what a client wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from beichen.inference.worker import EngineWorker
    from beichen.serve.records import RequestRecord

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FIRST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 300)  # upper ends, seconds
_TOKEN = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_WHOLE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 300, 600, 1800)


class Metrics:
    """One service's figures. ``names``: what clients may call a model; any other is counted under ''."""

    def __init__(self, worker: EngineWorker, names: Sequence[str]) -> None:
        self.names = frozenset(names)
        self.registry = registry = CollectorRegistry()
        registry.register(_Engine(worker))

        def times(name: str, meaning: str, ends: Sequence[float]) -> Histogram:
            return Histogram(f"beichen_{name}_seconds", meaning, ["model"], buckets=ends, registry=registry)

        def count(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"beichen_{name}", meaning, ["model", *labels], registry=registry)

        self._first = times("time_to_first_token", "From a request's head to its first piece", _FIRST)
        self._token = times("time_per_output_token", "Mean time between two tokens of an answer, from its first piece on", _TOKEN)
        self._whole = times("request", "From a request's head to the end of its answer", _WHOLE)
        self._prompt = count("prompt_tokens", "Tokens of prompts, counted once for each answer that began, and of texts made vectors")
        self._shared = count("prefix_tokens_shared", "Of these, tokens that were found in the cache and not computed")
        self._answer = count("output_tokens", "Tokens of answers")
        self._requests = count("requests", "Requests by how they ended", "outcome")

    def note_answer(self, model: str, *, prompt: int, shared: int, tokens: int, first: float | None, last: float | None) -> None:
        """One answer has ended, or was left. first, last: when its first and its latest piece came."""
        self._prompt.labels(model).inc(prompt)
        self._shared.labels(model).inc(shared)
        self._answer.labels(model).inc(tokens)
        if first is not None and last is not None and tokens > 1:
            self._token.labels(model).observe((last - first) / (tokens - 1))

    def note_texts(self, model: str, tokens: int) -> None:
        """Texts have been read that nothing answers: their vectors were asked for."""
        self._prompt.labels(model).inc(tokens)

    def note_request(self, record: RequestRecord, seconds: float) -> None:
        """A request has ended; ``seconds`` it took."""
        model = record.model if record.model in self.names else ""
        self._requests.labels(model, record.outcome).inc()
        if record.first is not None:
            self._first.labels(model).observe(record.first - record.begun)
            self._whole.labels(model).observe(seconds)

    def text(self) -> bytes:
        """All of it, in the form that Prometheus reads."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """What the engine knows of itself, as it is when asked."""

    def __init__(self, worker: EngineWorker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        worker, blocks = self._worker, self._worker.engine.blocks
        yield GaugeMetricFamily("beichen_queue_waiting", "Answers that the engine has not begun", worker.waiting)
        yield GaugeMetricFamily("beichen_queue_running", "Answers that the engine works on", worker.running)
        yield GaugeMetricFamily("beichen_cache_blocks", "Blocks of the key-value cache", blocks.count)
        yield GaugeMetricFamily("beichen_cache_blocks_used", "Blocks of the cache that answers hold", blocks.count - blocks.free)
        yield CounterMetricFamily(
            "beichen_preemptions", "Answers that gave way for want of blocks and were computed again", worker.engine.scheduler.preemptions
        )
