"""Preference objectives, equal to plain ones that score each document by itself with whole logits; micro-batches change nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from beichen.data.batch import Batch, collate
from beichen.data.packing import Pieces, lay_row
from beichen.data.pool import Part, Pool
from beichen.data.preference_rows import PreferenceRows
from beichen.data.preference_tokens import PreferenceTokens
from beichen.nn.config import ExpertsConfig
from beichen.nn.decoder import Decoder
from beichen.objectives.dpo import dpo_loss
from beichen.objectives.ipo import ipo_loss
from beichen.objectives.kto import RatedObjective
from beichen.objectives.preference import PairObjective
from beichen.objectives.types import LossSum
from tests.data.preferences import collected, random_pairs, random_rated
from tests.train.small_runs import tiny_decoder

BETA, ROW = 0.3, 80


def decoder() -> Decoder:
    return tiny_decoder(vocab_size=320, max_position_embeddings=256)


def rows_of(tokens: PreferenceTokens) -> PreferenceRows:
    everything = Part(name="all", source=0, items=np.arange(len(tokens)), lengths=tokens.unit_positions)
    return PreferenceRows(tokens, sequence_length=ROW, seed=0, pool=Pool(parts=[everything], weights=[1.0], seed=0))


def reference_of(tokens: PreferenceTokens) -> torch.Tensor:
    return -torch.rand(len(tokens.positions), generator=torch.Generator().manual_seed(0)) * 30


def pairs(**changes: Any) -> tuple[PreferenceTokens, PairObjective]:
    tokens = collected(random_pairs(40), sequence_length=ROW)
    loss = changes.pop("loss", partial(dpo_loss, beta=BETA))
    return tokens, PairObjective(**{"loss": loss, "reference": reference_of(tokens), "beta": BETA, **changes})


def rated(**changes: Any) -> tuple[PreferenceTokens, RatedObjective]:
    tokens = collected(random_rated(40), sequence_length=ROW, paired=False)
    weights = {"good_weight": 1.0, "bad_weight": 1.4}
    reference = reference_of(tokens) - 40.0  # so that the reference point is well above 0
    return tokens, RatedObjective(**{"reference": reference, "beta": BETA, **weights, **changes})


def plain(model: Decoder, tokens: PreferenceTokens, number: int) -> torch.Tensor:
    """Log-probability of a document's answer: the document alone, all its logits at once."""
    begin, end = tokens.offsets[number : number + 2].tolist()
    ids = torch.from_numpy(tokens.ids[begin:end]).long()
    each = model.logits(model(ids[None, :-1]))[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return each[torch.from_numpy(tokens.scored[begin + 1 : end])].sum()


def gradients(model: Decoder, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("kind", ["dpo", "smoothed", "ipo"])
@pytest.mark.parametrize("per_token", [False, True])
def test_pairs_equal_the_plain_form(kind, per_token):
    losses = {"dpo": partial(dpo_loss, beta=BETA), "smoothed": partial(dpo_loss, beta=BETA, label_smoothing=0.2),
              "ipo": partial(ipo_loss, beta=BETA)}  # fmt: skip
    tokens, objective = pairs(loss=losses[kind], sft_weight=0.5, per_token=per_token)
    model, batch = decoder(), collate([rows_of(tokens).row(index) for index in range(3)])
    found = objective(model, batch)
    assert batch.documents is not None
    main, sft, margins = torch.zeros(()), torch.zeros(()), []
    for number in batch.documents.number[0::2].tolist():
        ratios = []
        for document in (number, number + 1):
            ratio = plain(model, tokens, document) - objective.reference[document]
            ratios.append(ratio / int(tokens.targets[document]) if per_token else ratio)
        h = ratios[0] - ratios[1]
        if kind == "ipo":
            main = main + (h - 1 / (2 * BETA)) ** 2
        else:
            smoothing = 0.2 if kind == "smoothed" else 0.0
            main = main - (1 - smoothing) * torch.log(torch.sigmoid(BETA * h)) - smoothing * torch.log(torch.sigmoid(-BETA * h))
        sft = sft - 0.5 * plain(model, tokens, number) / int(tokens.targets[number])
        margins.append(BETA * float(h.detach()))
    assert float(found.loss_sum.detach()) == pytest.approx(float(main.detach()), rel=1e-4)
    assert float(found.auxiliary["sft_loss"].detach()) == pytest.approx(float(sft.detach()), rel=1e-5)
    assert float(found.figures["margin"]) == pytest.approx(sum(margins), rel=1e-4)
    assert float(found.figures["accuracy"]) == sum(margin > 0 for margin in margins)
    rewards = found.figures["chosen_reward"] - found.figures["rejected_reward"]
    assert float(rewards) == pytest.approx(sum(margins), rel=1e-4)
    assert_near(gradients(model, found.minimised), gradients(model, main + sft), 2e-5)


def test_rated_answers_equal_the_plain_form():
    tokens, objective = rated()
    model, batch = decoder(), collate([rows_of(tokens).row(index) for index in range(3)])
    found = objective(model, batch)
    assert batch.documents is not None and tokens.good is not None
    numbers = batch.documents.number.tolist()
    with torch.no_grad():
        mismatched = [float(plain(model, tokens, number + 1) - objective.reference[number + 1]) for number in numbers]
    point = sum(mismatched) / len(mismatched)
    assert point > 1.0, "its clamp at 0 would hide it"
    total = torch.zeros(())
    rewards: dict[bool, list[float]] = {True: [], False: []}
    for number in numbers:
        good = bool(tokens.good[number // 2])
        ratio = plain(model, tokens, number) - objective.reference[number]
        value = torch.sigmoid(BETA * (ratio - point)) if good else torch.sigmoid(BETA * (point - ratio))
        total = total + (1.0 if good else 1.4) * (1 - value)
        rewards[good].append(BETA * float(ratio.detach()))
    assert float(found.loss_sum.detach()) == pytest.approx(float(total.detach()), rel=1e-5)
    assert float(found.figures["reference_point"]) / batch.documents.units == pytest.approx(point, rel=1e-5)
    means = {good: sum(own) / len(own) for good, own in rewards.items()}
    assert float(found.figures["chosen_reward"]) / len(numbers) == pytest.approx(means[True], rel=1e-4)
    assert float(found.figures["rejected_reward"]) / len(numbers) == pytest.approx(means[False], rel=1e-4)
    assert_near(gradients(model, found.minimised), gradients(model, total), 2e-5)


def test_the_reference_point_is_never_below_zero():
    tokens, objective = rated()
    above = RatedObjective(reference=torch.zeros_like(objective.reference), beta=BETA)  # the reference is surer of everything
    assert float(above(decoder(), collate([rows_of(tokens).row(0)])).figures["reference_point"]) == 0.0


def step_gradients(model: Decoder, objective: PairObjective | RatedObjective, batches: list[Batch]) -> list[torch.Tensor]:
    """Of the mean over all units of all batches, for each tensor."""
    model.zero_grad()
    scored = objective.of_step(model, batches) if isinstance(objective, RatedObjective) else objective
    for batch in batches:
        scored(model, batch).minimised.backward()
    units = sum(batch.target_weight for batch in batches)
    return [parameter.grad.clone() / units for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("kind", ["dpo", "ipo", "kto", "dpo with sft", "kto with sft"])
def test_micro_batches_cannot_change_a_gradient(kind):
    """Rows with different numbers of units, cut anywhere: a mean of means, or a reference point of a part, would be far off."""
    sft = 0.3 if "sft" in kind else 0.0
    objective: PairObjective | RatedObjective
    if kind == "ipo":
        tokens, objective = pairs(loss=partial(ipo_loss, beta=BETA))
    elif "kto" in kind:
        tokens, objective = rated(sft_weight=sft)
    else:
        tokens, objective = pairs(sft_weight=sft)
    source, model = rows_of(tokens), decoder()
    rows = [source.row(index) for index in range(8)]
    units = {row.documents.units for row in rows if row.documents is not None}
    assert len(units) > 1, "the micro-batches are of one size: the law says nothing"
    expected = step_gradients(model, objective, [collate(rows)])
    for sizes in ([4, 4], [1, 7], [2, 3, 2, 1], [1] * 8):
        ends = np.cumsum(sizes).tolist()
        found = step_gradients(model, objective, [collate(rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)])
        for ours, theirs in zip(found, expected, strict=True):
            assert_near(ours, theirs, 1e-6)


def test_the_balance_of_experts_counts_once_for_each_pair():
    """Divided by the pairs of the step, it is a mean over them: micro-batches cannot change it, and more targets do not make it larger."""
    tokens, objective = pairs()
    experts = ExpertsConfig(num_experts=4, num_experts_per_token=2, intermediate_size=8, balance_factor=0.5, balance_form="sequence")
    model = tiny_decoder(vocab_size=320, max_position_embeddings=256, experts=experts).train()
    rows = [rows_of(tokens).row(index) for index in range(6)]
    parts = [collate(rows[:1]), collate(rows[1:])]
    for ours, theirs in zip(step_gradients(model, objective, parts), step_gradients(model, objective, [collate(rows)]), strict=True):
        assert_near(ours, theirs, 2e-6)
    scored = objective(model, parts[0])
    pair_balance = float(scored.auxiliary["balance_loss"].detach()) / parts[0].target_weight
    assert 0.4 < pair_balance < 2 * 2 * 0.5, "two layers, each about 0.5 times 1 where experts are used alike"
    assert scored.figures["margin"].shape == () and any(name.startswith("expert") for name in scored.figures)


@pytest.mark.parametrize("make", [pairs, rated])
def test_an_empty_batch_is_zero_with_zero_gradients(make):
    _, objective = make()
    none = np.zeros(0, np.int64)
    empty = lay_row(Pieces(stream=none, start=none, length=none), [np.zeros(1, np.int32)], sequence_length=ROW, pad_id=0)
    model, batch = decoder(), collate([empty])
    found: LossSum = objective(model, batch)
    assert float(found.loss_sum.detach()) == 0.0 and batch.target_weight == 0.0
    assert not gradients(model, found.minimised).any()


def test_at_the_reference_there_is_no_margin_and_dpo_costs_log_two():
    tokens, objective = pairs()
    model = decoder()
    with torch.no_grad():
        exact = torch.stack([plain(model, tokens, number) for number in range(len(tokens.positions))])
    batch = collate([rows_of(tokens).row(0)])
    found = PairObjective(loss=objective.loss, reference=exact, beta=BETA)(model, batch)
    assert float(found.figures["margin"]) == pytest.approx(0.0, abs=1e-4)
    assert float(found.loss_sum.detach()) / batch.target_weight == pytest.approx(math.log(2), abs=1e-5)
