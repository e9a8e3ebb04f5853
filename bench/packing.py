"""Dialogues in rows: how full packing makes them, what isolated attention costs beside causal, how fast dialogues render.

Attention is one layer's over the same rows, forward and backward, with our kernel (bf16) and with torch's (float32). Rendering takes
dialogues that the package generates, in bulk as training does and one by one. Efficiency is of TeleChat2's published samples, where they
lie beside the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from beichen.data.dialogue_files import read_dialogues
from beichen.data.dialogue_tokens import collect_dialogues, rendered_for_training
from beichen.data.rows import DialogueRows
from beichen.nn import kernels
from beichen.nn.attention import attention
from beichen.nn.documents import attention_by_document
from beichen.nn.visibility import Visibility
from beichen.quickstart.corpus import generate_dialogues
from beichen.text.bulk_rendering import render_in_bulk
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.tokenizer import read_tokenizer
from bench.records import FOLDER, BenchResult, Run
from bench.timing import take_turns
from bench.verdicts import CAUSAL

ROWS, TOKENS, HEADS, HEAD_DIM = 2, 2048, 8, 64
DOCUMENTS = (4, 16)
DIALOGUES = 8000
SHARED = FOLDER.parents[1] / "shared"
SAMPLES, TOKENIZER = SHARED / "data/sft/telechat2", SHARED / "golden/tokenizers/telechat2-115b"
ROW = 2048


def measure(run: Run, *, rounds: int) -> list[BenchResult]:
    """Records of attention, rendering, and packing where there are samples to pack."""
    return [*_attention(run, rounds), *_rendering(run, rounds), *_efficiency(run)]


def _attention(run: Run, rounds: int) -> Iterator[BenchResult]:
    calls: dict[str, Callable[[], object]] = {}
    for documents in (1, *DOCUMENTS):
        starts = (torch.arange(TOKENS) // (TOKENS // documents) * (TOKENS // documents)).int().expand(ROWS, -1).contiguous()
        name = CAUSAL if documents == 1 else f"{documents} documents a row"
        if kernels.status().available:
            calls[f"kernel, {name}"] = _kernel_call(starts)
        calls[f"torch, {name}"] = _torch_call(None if documents == 1 else starts)
    for call in calls.values():
        call()
    for name, seconds in take_turns(calls, rounds=rounds).items():
        settings = f"{ROWS} x {TOKENS} tokens, {HEADS} heads of {HEAD_DIM}, forward and backward"
        yield run.record("packing", name, [1e3 * value for value in seconds], "ms", settings=settings)


def _kernel_call(starts: torch.Tensor) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(ROWS, TOKENS, 3 * HEADS * HEAD_DIM, generator=generator).bfloat16().requires_grad_()
    cos, sin = torch.ones(1, TOKENS, HEAD_DIM // 2), torch.zeros(1, TOKENS, HEAD_DIM // 2)
    grad = torch.randn(ROWS, TOKENS, HEADS * HEAD_DIM, generator=generator).bfloat16()

    def call() -> None:
        qkv.grad = None
        out = kernels.rope_attention(
            qkv, cos, sin, starts, num_heads=HEADS, num_key_value_heads=HEADS, scale=HEAD_DIM**-0.5
        )  # fmt: skip
        out.backward(grad)

    return call


def _torch_call(starts: torch.Tensor | None) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(ROWS, TOKENS, HEADS, HEAD_DIM, generator=generator).requires_grad_()
    key, value = (torch.randn(ROWS, HEADS, TOKENS, HEAD_DIM, generator=generator).requires_grad_() for _ in range(2))
    grad = torch.randn(ROWS, TOKENS, HEADS * HEAD_DIM, generator=generator)

    def call() -> None:
        query.grad = key.grad = value.grad = None
        if starts is None:
            out = attention(query, key, value, None)
        else:
            documents = attention_by_document(query.transpose(1, 2), key, value, Visibility(starts).lengths or [], scale=HEAD_DIM**-0.5)
            out = documents.transpose(1, 2).flatten(2)
        out.backward(grad)

    return call


def _rendering(run: Run, rounds: int) -> Iterator[BenchResult]:
    dialogues = [dialogue for _, dialogue in generate_dialogues(0, DIALOGUES)]
    texts = (message.content for dialogue in dialogues for message in dialogue.messages)
    tokenizer = train_tokenizer(texts, vocab_size=4096, template="telechat2-bare")

    def in_bulk() -> object:
        return list(render_in_bulk(tokenizer, dialogues))

    def one_by_one() -> object:
        return [tokenizer.render(dialogue.messages) for dialogue in dialogues]

    tokens = sum(len(part.ids) for part in render_in_bulk(tokenizer, dialogues))
    seconds = take_turns({"rendering in bulk": in_bulk, "rendering one by one": one_by_one}, rounds=rounds)
    for name, readings in seconds.items():
        speeds = [DIALOGUES / value for value in readings]
        yield run.record("packing", name, speeds, "dialogues/s", settings=f"{DIALOGUES} dialogues of {tokens / DIALOGUES:.0f} tokens")


def _efficiency(run: Run) -> Iterator[BenchResult]:
    files = sorted(SAMPLES.glob("dummy_sft_*.jsonl")) if TOKENIZER.exists() else []
    if not files:
        return
    tokenizer = read_tokenizer(TOKENIZER, template="telechat2")
    parts = list(rendered_for_training(read_dialogues(files), tokenizer))
    collected = collect_dialogues(parts, sequence_length=ROW, pad_id=tokenizer.pad_id)
    seeds = [DialogueRows(collected, sequence_length=ROW, seed=seed).packing_efficiency for seed in range(3)]
    account = collected.account
    yield run.record(
        "packing", "packing efficiency", [100 * value for value in seeds], "%", ceiling=100.0, settings=f"sft/telechat2 at {ROW}",
        details={
            "dialogues": account.read.items,
            "longer than a row": sum(int((np.diff(part.offsets) > ROW + 1).sum()) for part in parts),
            "shortened": sum(tally.items for tally in account.noted.values()),
            "dropped": sum(tally.items for tally in account.dropped.values()),
        },
    )  # fmt: skip
