"""What ``beichen serve`` costs beside the engine in it: streams over HTTP against the same requests given to the engine directly, the first
token behind a shared beginning, the time from the command to the first answer, and the memory of the process.

The server is the real command in a process of its own; its client is a bare socket in this one, which shares the cores with it.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from beichen.inference.api import Request
from beichen.inference.language_model import LanguageModel, load
from beichen.nn.config import DecoderConfig
from beichen.text.byte_pair_training import train_tokenizer
from bench.records import BenchResult, Run
from bench.server_verdicts import ALONE, NEW, PREFIX_TOKENS, SECTION, SERVED, SHARED, STREAMS, first_token, streamed
from bench.serving_contender import random_prompts
from bench.workload import ours, reference_config

PROMPT_TOKENS, NEW_TOKENS = 32, 128
CACHE_BYTES, FIXED_BYTES = 512 << 20, 500_000_000
ROOT = Path(__file__).resolve().parent.parent
_prompts = partial(random_prompts, vocabulary=reference_config().vocab_size)


def large_config() -> DecoderConfig:
    """A Llama of 0.5 billion parameters: 1 GB in bf16."""
    return replace(
        reference_config(),
        hidden_size=1536,
        num_hidden_layers=15,
        num_attention_heads=12,
        num_key_value_heads=12,
        intermediate_size=4096,
        head_dim=128,
    )


def measure(run: Run, *, rounds: int = 5) -> list[BenchResult]:
    """Records of throughput, first token, start-up and memory."""
    with tempfile.TemporaryDirectory(prefix="beichen-server-") as place:
        small, large = Path(place) / "small", Path(place) / "large"
        _save(small, reference_config())
        found = _throughput(run, small, rounds)
        _save(large, large_config())
        return found + _beginning(run, large)


def _save(folder: Path, config: DecoderConfig) -> None:
    """Random weights, with a tokenizer of the texts of this project, whose ids mean words."""
    texts = [path.read_text(encoding="utf-8") for pattern in ("docs/*.md", "beichen/**/*.py") for path in sorted(ROOT.glob(pattern))]
    tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size)
    LanguageModel(ours(config, torch.bfloat16), tokenizer, family="llama").save(folder)


def _throughput(run: Run, folder: Path, rounds: int) -> list[BenchResult]:
    model = load(folder)
    requests = [Request(prompt_ids=prompt, max_new_tokens=NEW_TOKENS) for prompt in _prompts(STREAMS, PROMPT_TOKENS, seed=0)]
    speeds: dict[str, list[float]] = {ALONE: [], SERVED: []}
    with _served(folder) as server:
        for number in range(rounds + 1):  # the first is not counted
            begin = time.perf_counter()
            model.generator.generate(requests)
            direct = time.perf_counter() - begin
            begin = time.perf_counter()
            asyncio.run(_ask_all(server.port, [list(request.prompt_ids) for request in requests]))
            served = time.perf_counter() - begin
            if number:
                for name, seconds in zip(speeds, (direct, served), strict=True):
                    speeds[name].append(STREAMS * NEW_TOKENS / seconds)
        first, second = [], []
        for prompt in _prompts(rounds, PREFIX_TOKENS, seed=1):
            tails = _prompts(2, 20, seed=prompt[0])
            first.append(asyncio.run(_ask(server.port, [*prompt, *tails[0]], tokens=1)).first)
            second.append(asyncio.run(_ask(server.port, [*prompt, *tails[1]], tokens=1)).first)
    records = [
        run.record(
            SECTION, streamed(name), values, "tok/s",
            settings=f"prompts of {PROMPT_TOKENS}, {NEW_TOKENS} new tokens, 42M Llama, bf16",
        )
        for name, values in speeds.items()
    ]  # fmt: skip
    for name, values in ((NEW, first), (SHARED, second)):
        records.append(
            run.record(
                SECTION,
                first_token(name),
                [value * 1e3 for value in values],
                "ms",
                settings="and 20 of its own",
            )
        )
    return records


def _beginning(run: Run, folder: Path) -> list[BenchResult]:
    seconds, peaks = [], []
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    for _ in range(3):
        begin = time.perf_counter()
        with _served(folder) as server:
            asyncio.run(_ask(server.port, _prompts(1, PROMPT_TOKENS, seed=0)[0], tokens=1))
            seconds.append(time.perf_counter() - begin)
            asyncio.run(_ask_all(server.port, _prompts(STREAMS, 500, seed=0)))
            peaks.append(server.peak_bytes())
    bound = 1.15 * weights + CACHE_BYTES + FIXED_BYTES
    about = f"weights of {weights / 1e6:,.0f} MB, cache of {CACHE_BYTES / 1e6:,.0f} MB"
    return [
        run.record(SECTION, "from the command to the first token", seconds, "s", settings=about),
        run.record(
            SECTION, "peak memory", [peak / 1e6 for peak in peaks], "MB", ceiling=bound / 1e6,
            settings=f"{about}; ceiling: 1.15 x weights + cache + 500 MB",
        ),
    ]  # fmt: skip


@dataclass
class _Server:
    port: int
    process: subprocess.Popen[str]

    def peak_bytes(self) -> int:
        """VmHWM of the process."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    """``beichen serve`` on a free port, from the moment that it listens."""
    command = [sys.executable, "-m", "beichen", "serve", str(folder), "--port", "0", "--name", "bench", "--kv-memory", f"{CACHE_BYTES}B"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if address is None:
            raise RuntimeError(f"beichen serve said {line!r} instead of its address")
        yield _Server(int(address[1]), process)
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class _Answer:
    first: float  # seconds until the first token
    tokens: int


async def _ask_all(port: int, prompts: list[list[int]]) -> None:
    answers = await asyncio.gather(*(_ask(port, prompt) for prompt in prompts))
    if any(answer.tokens != NEW_TOKENS for answer in answers):
        raise AssertionError(f"answers have {[answer.tokens for answer in answers]} tokens, each should have {NEW_TOKENS}")


async def _ask(port: int, prompt: list[int], *, tokens: int = NEW_TOKENS) -> _Answer:
    """One streamed completion."""
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked: dict[str, Any] = {"model": "bench", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True}
    body = json.dumps({**asked, "stream_options": {"include_usage": True}}).encode()
    head = (
        "POST /v1/completions HTTP/1.1",
        "Host: bench",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    received = await reader.readuntil(b"data: ")
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received.decode(errors="replace"))
    first = time.perf_counter() - begin
    rest = await reader.read()
    writer.close()
    counted = re.findall(rb'"completion_tokens":\s*(\d+)', rest)
    return _Answer(first, int(counted[-1]))
