"""What changes the speed of a decoding step: weights in codes, adapters of the requests, another program on one of the cores.

In one process; engines with the same load take turns, a few steps each. Speed is ids per second of steps without prompts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from unittest import mock

import torch

from beichen.inference.api import Request
from beichen.inference.engine import Engine
from beichen.models.adapters import AdapterShape, Matrices, made_apart
from beichen.models.linear_names import choose, linear_layers, places
from beichen.nn.decoder import Decoder
from beichen.nn.kernels.threads import crew
from beichen.nn.quantized import KINDS
from beichen.nn.spans import Updates
from bench.records import BenchResult, Run
from bench.step_variants_verdicts import ADAPTED, ALL_THREADS, BASE, PLAIN, RESTING, SECTION, named
from bench.timing import take_turns
from bench.workload import FAMILY, as_loaded, ndl_shaped_config, ours, reference_config

PROMPT_TOKENS, CACHE_BYTES, RANK = 32, 1 << 28, 16
WARMUP_STEPS = 6
Whose = Callable[[int], str | None]  # the adapter of a row


def measure(run: Run, *, rounds: int = 5) -> list[BenchResult]:
    """Records of all variants."""
    small, large = (as_loaded(ours(config, torch.bfloat16)) for config in (reference_config(), ndl_shaped_config()))
    records = _weights(run, "42M", small, steps=8, rounds=rounds)
    records += _weights(run, "0.8B", large, steps=2, rounds=rounds)
    del large
    records += _adapters(run, "42M", small, rounds=rounds)
    return records + _neighbour(run, "42M", small, rounds=rounds)


def _weights(run: Run, size: str, decoder: Decoder, *, steps: int, rounds: int) -> list[BenchResult]:
    held: dict[str, Decoder] = {BASE: decoder}
    held.update((kind, as_loaded(decoder, quantize=kind)) for kind in KINDS)
    found = []
    for rows in (1, 4, 16, 64):
        engines = {name: _loaded(Engine(one, kv_bytes=CACHE_BYTES), rows) for name, one in held.items()}
        found += _records(run, size, rows, engines, steps=steps, rounds=rounds)
    return found


def _adapters(run: Run, size: str, decoder: Decoder, *, rounds: int) -> list[BenchResult]:
    adapters = {str(number): _random_adapter(decoder, seed=number) for number in range(16)}
    found = []
    for rows, counts in ((1, (0, 1)), (4, (0, 4)), (16, (0, 1, 4, 16))):
        engines = {}
        for count in counts:
            engine = Engine(decoder, kv_bytes=CACHE_BYTES, adapters=adapters)
            engines[ADAPTED[count]] = _loaded(engine, rows, whose=_in_turn(count))
        found += _records(run, size, rows, engines, steps=8, rounds=rounds, settings=f"LoRA of rank {RANK} on all linear layers")
    return found


def _in_turn(count: int) -> Whose:
    return lambda row: str(row % count) if count else None


def _neighbour(run: Run, size: str, decoder: Decoder, *, rounds: int) -> list[BenchResult]:
    """Beside a program that computes in one thread without end."""
    found = []
    for rows in (1, 16):
        engine = _loaded(Engine(decoder, kv_bytes=CACHE_BYTES), rows)
        found += _records(run, size, rows, {PLAIN: engine}, steps=30, rounds=rounds)
        with _busy_core():
            _run(engine, 300)  # it finds out, and looks again ever less often
            found += _records(run, size, rows, {RESTING: engine}, steps=30, rounds=rounds)
            with _all_threads():
                found += _records(run, size, rows, {ALL_THREADS: engine}, steps=4, rounds=rounds)
    return found


@contextmanager
def _busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)  # until it computes
        yield
    finally:
        process.kill()
        process.wait()


def _loaded(engine: Engine, rows: int, whose: Whose = lambda row: None) -> Engine:
    """So many sequences with their prompts read."""
    generator = torch.Generator().manual_seed(rows)
    for row in range(rows):
        prompt = torch.randint(0, engine.vocab_size, (PROMPT_TOKENS,), generator=generator).tolist()
        engine.submit(Request(prompt_ids=prompt, max_new_tokens=1_900, adapter=whose(row)))
    _run(engine, WARMUP_STEPS)
    return engine


def _run(engine: Engine, steps: int) -> None:
    for _ in range(steps):
        engine.step()


@contextmanager
def _all_threads() -> Iterator[None]:
    with mock.patch.object(crew, "tell"), mock.patch.object(crew, "size", torch.get_num_threads):
        yield


def _records(
    run: Run, size: str, rows: int, engines: Mapping[str, Engine], *, steps: int, rounds: int, settings: str = ""
) -> list[BenchResult]:
    seconds = take_turns({name: partial(_run, engine, steps) for name, engine in engines.items()}, rounds=rounds)
    return [
        run.record(SECTION, named(size, rows, name), [rows * steps / value for value in values], "tok/s", settings=settings)
        for name, values in seconds.items()
    ]


def _random_adapter(decoder: Decoder, *, seed: int) -> Updates:
    """On all linear layers."""
    generator, known, layers = torch.Generator().manual_seed(seed), places(FAMILY.names, decoder), linear_layers(decoder)
    chosen = choose(["all-linear"], FAMILY, decoder)
    matrices = {
        name: Matrices(
            torch.randn(RANK, layers[known[name].layer].shape[-1], generator=generator) * 0.02,
            torch.randn(len(known[name].rows), RANK, generator=generator) * 0.02,
            None,
        )
        for name in chosen
    }
    return made_apart(decoder, FAMILY.names, AdapterShape(alpha=2.0 * RANK, ranks=dict.fromkeys(chosen, RANK)), matrices)
