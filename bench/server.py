"""What ``beichen serve`` costs beside the engine in it: streams over HTTP against the same requests given to the engine directly, the first
token behind a shared beginning, the time from the command to the first answer, and the memory of the process.

The server is the real command in a process of its own; its client in this one shares the cores with it and takes little of them.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from beichen.inference.api import Request
from beichen.inference.language_model import LanguageModel, load
from beichen.nn.config import DecoderConfig
from beichen.text.byte_pair_training import train_tokenizer
from bench.light_client import ask
from bench.records import BenchResult, Run
from bench.server_verdicts import (
    ALONE,
    IN_PAIRS,
    NEW,
    NEW_TOKENS,
    PAIRS_ERROR,
    PREFIX_TOKENS,
    SECTION,
    SERVED,
    SHARED,
    STREAMS,
    first_token,
    streamed,
)
from bench.serving_contender import random_prompts
from bench.timing import take_turns
from bench.workload import ours, reference_config

PROMPT_TOKENS = 32
PAIRS = {128: 8, 512: 2}  # of calls a round, by new tokens: what is looked for is smaller than what the machine does to one call
MEDIANS_ERROR = math.sqrt(math.pi / 2)  # standard error of a median over that of a mean, of normal numbers
LOOK = 0.004  # seconds between two looks of the client at its streams
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
    records: list[BenchResult] = []
    with _served(folder) as server:
        for tokens in NEW_TOKENS:
            prompts = (_prompts(STREAMS, PROMPT_TOKENS, seed=seed) for seed in itertools.count())  # nobody has seen them
            ways = {ALONE: partial(_generate, model, prompts, tokens), SERVED: partial(_stream, server, prompts, tokens)}
            for way in ways.values():
                way()
            records += _both_ways(run, tokens, take_turns(ways, rounds=rounds * PAIRS[tokens]))
        first: dict[str, list[float]] = {NEW: [], SHARED: []}
        for prompt in _prompts(rounds, PREFIX_TOKENS, seed=1):
            for times, tail in zip(first.values(), _prompts(2, 20, seed=prompt[0]), strict=True):
                times.append(ask(server.port, [[*prompt, *tail]], tokens=1)[0].first * 1e3)
    return records + [run.record(SECTION, first_token(name), values, "ms", settings="and 20 of its own") for name, values in first.items()]


def _generate(model: LanguageModel, prompts: Iterator[list[list[int]]], tokens: int) -> None:
    model.generator.generate([Request(prompt_ids=prompt, max_new_tokens=tokens) for prompt in next(prompts)])


def _stream(server: _Server, prompts: Iterator[list[list[int]]], tokens: int) -> None:
    _stream_all(server, next(prompts), tokens=tokens)


def _both_ways(run: Run, tokens: int, seconds: dict[str, list[float]]) -> list[BenchResult]:
    """With the median of the rounds' own ratios, since one round sees one mood of the machine."""
    speeds = {way: [STREAMS * tokens / taken for taken in values] for way, values in seconds.items()}
    pairs = [server / engine for server, engine in zip(speeds[SERVED], speeds[ALONE], strict=True)]
    error = MEDIANS_ERROR * statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    details: dict[str, dict[str, float]] = {ALONE: {}, SERVED: {IN_PAIRS: statistics.median(pairs), PAIRS_ERROR: error}}
    settings = f"prompts of {PROMPT_TOKENS}, 42M Llama, bf16"
    return [
        run.record(SECTION, streamed(tokens, way), values, "tok/s", settings=settings, details=details[way])
        for way, values in speeds.items()
    ]


def _beginning(run: Run, folder: Path) -> list[BenchResult]:
    seconds, peaks = [], []
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    for _ in range(3):
        begin = time.perf_counter()
        with _served(folder) as server:
            ask(server.port, _prompts(1, PROMPT_TOKENS, seed=0), tokens=1)
            seconds.append(time.perf_counter() - begin)
            _stream_all(server, _prompts(STREAMS, 500, seed=0), tokens=min(NEW_TOKENS))
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
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8"))
        assert found is not None
        return int(found[1]) * 1024


@contextmanager
def _served(folder: Path) -> Iterator[_Server]:
    """``beichen serve`` on a free port, from the moment that it listens."""
    command = [sys.executable, "-m", "beichen", "serve", str(folder), "--port", "0", "--name", "bench", "--kv-memory", f"{CACHE_BYTES}B"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8", errors="replace"
    )
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


def _stream_all(server: _Server, prompts: list[list[int]], *, tokens: int) -> None:
    """All prompts at once, to the end of the last answer."""
    answers = ask(server.port, prompts, tokens=tokens, pause=LOOK)
    if any(answer.tokens != tokens for answer in answers):
        raise AssertionError(f"answers have {[answer.tokens for answer in answers]} tokens, each should have {tokens}")
