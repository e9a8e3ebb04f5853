"""Decoding speed beside transformers: one sequence alone, and sixteen at once; the answers in float32 must be equal id for id.

Speed is new ids per second of the whole call, reading the prompt included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from beichen.inference.api import Request
from beichen.inference.generation import DecoderGenerator
from beichen.nn.config import DecoderConfig
from bench.records import BenchResult, Run
from bench.timing import read_bandwidth, take_turns
from bench.workload import as_loaded, head_and_layer_parameters, ours, random_batch, reference_config, theirs

PROMPT_TOKENS, NEW_TOKENS, ROW_COUNTS = 32, 128, (1, 16)

Answer = Callable[[Tensor], Tensor]  # prompts [rows, tokens] -> new ids [rows, NEW_TOKENS]


def our_decoder(config: DecoderConfig, dtype: torch.dtype) -> Answer:
    """Our generator, greedy."""
    generator = DecoderGenerator(as_loaded(ours(config, dtype)), None)

    def answer(prompts: Tensor) -> Tensor:
        requests = [Request(prompt_ids=prompt, max_new_tokens=NEW_TOKENS) for prompt in prompts.tolist()]
        return torch.tensor([completion.ids for completion in generator.generate(requests)])

    return answer


def their_decoder(config: DecoderConfig, dtype: torch.dtype, *, static_cache: bool, compiled: bool = False) -> Answer:
    """``generate`` of transformers, greedy, no stop id."""
    model = theirs(config, dtype).eval()
    if compiled:
        model.forward = torch.compile(model.forward)
    keywords: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if static_cache:
        keywords["cache_implementation"] = "static"

    @torch.inference_mode()
    def answer(prompts: Tensor) -> Tensor:
        ids: Tensor = model.generate(prompts, attention_mask=torch.ones_like(prompts), **keywords)
        return ids[:, prompts.shape[1] :]

    return answer


def contenders(config: DecoderConfig, *, compiled: bool) -> dict[str, tuple[str, Answer]]:
    """Name -> settings and answerer, ours first."""
    found = {
        "ours": ("bf16, greedy", our_decoder(config, torch.bfloat16)),
        "transformers": ("bf16, greedy, sdpa, dynamic cache", their_decoder(config, torch.bfloat16, static_cache=False)),
        "transformers, static cache": ("bf16, greedy, sdpa, static cache", their_decoder(config, torch.bfloat16, static_cache=True)),
    }
    if compiled:
        answer = their_decoder(config, torch.bfloat16, static_cache=True, compiled=True)
        found["transformers, static cache, compiled"] = ("bf16, greedy, sdpa, static cache, torch.compile", answer)
    return found


def equal_in_float32(config: DecoderConfig, rows: int) -> float:
    """Share of ids that ours and transformers' have in common, greedy, in float32, up to each row's first difference."""
    prompts = _prompts(config, rows)
    mine = our_decoder(config, torch.float32)(prompts)
    other = their_decoder(config, torch.float32, static_cache=False)(prompts)
    return float((mine == other).long().cumprod(1).float().mean())


def measure(run: Run, *, rounds: int = 5, compiled: bool = False) -> list[BenchResult]:
    """Records of every contender for every row count. Raises AssertionError when float32 answers differ."""
    config = reference_config()
    entrants = contenders(config, compiled=compiled)
    bandwidth = read_bandwidth()
    weight_bytes = 2.0 * head_and_layer_parameters(config)
    records = [run.record("decoding", "memory reading", [value / 1e9 for value in bandwidth], "GB/s")]
    for rows in ROW_COUNTS:
        if (common := equal_in_float32(config, rows)) < 1.0:
            raise AssertionError(f"greedy ids in float32, {rows} rows: only {common:.1%} equal those of transformers")
        prompts = _prompts(config, rows)
        for _, answer in entrants.values():
            answer(prompts)
        turns: dict[str, Callable[[], object]] = {name: _ask(answer, prompts) for name, (_, answer) in entrants.items()}
        seconds = take_turns(turns, rounds=rounds)
        ceiling = rows * statistics.median(bandwidth) / weight_bytes
        for name, (settings, _) in entrants.items():
            speeds = [rows * NEW_TOKENS / value for value in seconds[name]]
            records.append(run.record("decoding", f"{rows} rows: {name}", speeds, "tok/s", ceiling=ceiling, settings=settings))
    return records


def _ask(answer: Answer, prompts: Tensor) -> Callable[[], object]:
    return lambda: answer(prompts)


def _prompts(config: DecoderConfig, rows: int) -> Tensor:
    return random_batch(config, 7, rows=rows, tokens=PROMPT_TOKENS - 1)
