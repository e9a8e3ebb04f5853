"""Law of packing: what a sample costs, and what it teaches, is the same alone and beside others in a row, for every attention backend."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable

import pytest
import torch

from beichen.data.batch import Batch, collate
from beichen.data.dialogue_tokens import DialogueTokens, collect_dialogues
from beichen.data.rows import DialogueRows
from beichen.nn import kernels
from beichen.nn.cross_entropy import position_losses
from beichen.nn.decoder import Decoder
from beichen.objectives.next_token import next_token
from beichen.text.bulk_rendering import flat
from beichen.text.messages import Rendered, Role, Segment
from tests.train.small_runs import tiny_decoder

PAD, ROW = 0, 48
BACKENDS = [
    pytest.param(torch.float32, False, 1e-5, id="float32-torch"),
    pytest.param(torch.float32, True, 1e-5, id="float32-kernels"),
    pytest.param(torch.bfloat16, False, 3e-2, id="bfloat16-torch"),
    pytest.param(
        torch.bfloat16, True, 3e-2, id="bfloat16-kernels",
        marks=pytest.mark.skipif(not kernels.status().available, reason=kernels.status().reason),
    ),
]  # fmt: skip


def dialogues(count: int, seed: int) -> list[Rendered]:
    rng = random.Random(seed)

    def segment(role: Role, weight: float) -> Segment:
        return Segment(ids=tuple(rng.randrange(1, 30) for _ in range(rng.randint(1, 7))), weight=weight, role=role)

    return [
        Rendered(segments=tuple(part for _ in range(rng.randint(1, 2)) for part in (segment("user", 0.0), segment("assistant", weight))))
        for weight in rng.choices([1.0, 0.5, 2.0], k=count)
    ]


def collected(given: Iterable[Rendered], length: int) -> DialogueTokens:
    return collect_dialogues([flat(list(given))], sequence_length=length, pad_id=PAD)


def packed(given: list[Rendered], isolate: bool = True) -> Batch:
    rows = DialogueRows(collected(given, ROW), sequence_length=ROW, seed=0, isolate=isolate)
    return collate([rows.row(index) for index in range(int(rows.rows_per_epoch))])


def alone(given: list[Rendered]) -> list[Batch]:
    return [collate([DialogueRows(collected([one], len(one.ids)), sequence_length=len(one.ids), seed=0).row(0)]) for one in given]


def samples(decoder: Decoder, batch: Batch) -> dict[tuple[int, ...], float]:
    """Loss of each sample, by its input ids."""
    with torch.no_grad():
        hidden = decoder(batch.input_ids, positions=batch.positions, first_visible=batch.first_visible)
        losses = position_losses(hidden.flatten(0, 1), decoder.head_weight, batch.targets.flatten()).view_as(batch.targets)
    found: dict[tuple[int, ...], float] = {}
    for row in range(len(losses)):
        for begin in batch.first_visible[row].unique().tolist():
            own = batch.first_visible[row] == begin
            found[tuple(batch.input_ids[row][own].tolist())] = float(losses[row][own].sum())
    found.pop((PAD,), None)
    return found


def gradients(decoder: Decoder, batches: list[Batch]) -> torch.Tensor:
    decoder.zero_grad()
    for batch in batches:
        next_token(decoder, batch).loss_sum.backward()
    total = sum(batch.target_weight for batch in batches)
    return torch.cat([parameter.grad.float().flatten() for parameter in decoder.parameters() if parameter.grad is not None]) / total


@pytest.mark.parametrize(("dtype", "with_kernels", "tolerance"), BACKENDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_packed_and_alone_agree(dtype: torch.dtype, with_kernels: bool, tolerance: float, seed: int) -> None:
    changes = {"vocab_size": 32, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
               "intermediate_size": 64, "max_position_embeddings": ROW}  # fmt: skip
    decoder, given = tiny_decoder(seed, dtype, **changes), dialogues(24, seed)
    with contextlib.nullcontext() if with_kernels else kernels.switched_off():
        together, each = packed(given), alone(given)
        assert len(together.input_ids) < len(given) / 2 and together.weights is not None
        assert together.target_count == sum(batch.target_count for batch in each)
        found = samples(decoder, together)
        wanted = {sample: loss for batch in each for sample, loss in samples(decoder, batch).items()}
        assert found.keys() == wanted.keys()
        for sample, loss in wanted.items():
            assert found[sample] == pytest.approx(loss, rel=tolerance, abs=tolerance)
        ours, theirs = gradients(decoder, [together]), gradients(decoder, each)
        assert float((ours - theirs).norm() / theirs.norm()) < tolerance
        if dtype == torch.float32:
            seen = gradients(decoder, [packed(given, isolate=False)])
            assert float((seen - theirs).norm() / theirs.norm()) > 1e-3, "the law would not notice dialogues that see each other"
