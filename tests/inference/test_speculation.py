"""Laws of speculation: certain targets keep what is equal, and sampling gives the distribution of the target alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from beichen.inference.speculation import accept, propose, uniforms_for
from tests.inference.test_drawing import chi_square
from tests.inference.test_sampling import row_of

VOCAB, DRAWS = 50, 100_000


def distribution(seed: int, spread: float, *, banned: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(VOCAB, generator=generator) * spread
    logits[torch.randperm(VOCAB, generator=generator)[:banned]] = -torch.inf
    return logits.softmax(0)


@pytest.mark.parametrize(("spread", "banned"), [(0.0, 0), (1.0, 0), (3.0, 20), (6.0, 40)])  # drafts near to and far from the target
@pytest.mark.parametrize("drawn", [True, False])
def test_every_place_is_distributed_as_the_target_says(spread, banned, drawn):
    """100,000 rounds of two drafted ids; the target of the second place depends on the first id. Chi-square of each id that comes out."""
    k = 2
    draft = torch.stack([distribution(1, spread, banned=banned), distribution(2, spread, banned=banned)])
    target_of_first = distribution(3, 1.5)
    target_after = torch.stack([distribution(10 + token, 1.5, banned=10) for token in range(VOCAB)])  # [first id, vocab]
    generator = torch.Generator().manual_seed(7)
    ids = torch.stack([draft[place].multinomial(DRAWS, replacement=True, generator=generator) for place in range(k)], 1)
    if not drawn:
        ids = torch.tensor([[3, 4]]).expand(DRAWS, -1)
    third = distribution(5, 1.0)
    target = torch.stack([target_of_first.expand(DRAWS, -1), target_after[ids[:, 0]], third.expand(DRAWS, -1)], 1)
    uniforms = torch.rand(DRAWS, k + 1, 2, generator=generator, dtype=torch.float64)
    accepted, following = accept(ids, draft.expand(DRAWS, -1, -1) if drawn else None, target, uniforms)
    first = torch.where(accepted >= 1, ids[:, 0], following)
    check(first, target_of_first)
    second = torch.where(accepted >= 2, ids[:, 1], following)
    for token in target_of_first.topk(2).indices.tolist():
        rows = (first == token) & (accepted >= 1)
        if rows.sum() > 5000:
            check(second[rows], target_after[token])
    if (rows := accepted == 2).sum() > 5000:
        check(following[rows], third)


def check(ids: torch.Tensor, shares: torch.Tensor) -> None:
    counts = np.bincount(ids.numpy(), minlength=VOCAB)
    expected = shares.double().numpy() * len(ids)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    freedom = possible.sum() - 1
    assert chi_square(counts[possible], expected[possible]) < freedom + 4 * np.sqrt(2 * freedom) + 10


@pytest.mark.parametrize("seed", range(5))
def test_one_hot_targets_keep_exactly_the_equal_beginning(seed):
    generator = torch.Generator().manual_seed(seed)
    draft, target = (torch.randint(0, 3, (200, size), generator=generator) for size in (4, 5))
    lengths = torch.randint(0, 5, (200,), generator=generator)
    uniforms = torch.rand(200, 5, 2, generator=generator, dtype=torch.float64)
    accepted, following = accept(draft, None, torch.nn.functional.one_hot(target, 3).float(), uniforms, lengths)
    for row in range(200):
        n = 0
        while n < lengths[row] and draft[row, n] == target[row, n]:
            n += 1
        assert (int(accepted[row]), int(following[row])) == (n, int(target[row, n]))


def test_without_drafts_the_id_is_the_one_that_would_be_drawn():
    target = torch.stack([distribution(seed, 2.0) for seed in range(20)])[:, None]
    rows = [row_of(VOCAB, temperature=1.0, seed=seed) for seed in range(20)]
    accepted, following = accept(torch.empty(20, 0, dtype=torch.int64), None, target, uniforms_for(rows, 1))
    from beichen.inference.sampling import Sampler

    assert not accepted.any()
    assert torch.equal(following, Sampler(vocab_size=VOCAB, device=torch.device("cpu")).pick(target[:, 0].log(), rows))


def test_numbers_belong_to_places_not_to_rounds():
    row = row_of(VOCAB, seed=5)
    whole = uniforms_for([row], 6)
    row.note(0)
    row.note(0)
    assert torch.equal(uniforms_for([row], 4), whole[:, 2:])
    assert len(set(whole.flatten().tolist())) == 12


@pytest.mark.parametrize("seed", range(20))
def test_what_is_proposed_followed_the_longest_end_that_was_there_before(seed):
    rng = random.Random(seed)
    for _ in range(50):
        ids = [rng.randrange(4) for _ in range(rng.randint(1, 40))]
        longest, count = rng.randint(1, 5), rng.randint(1, 6)
        expected: list[int] = []
        for size in range(min(longest, len(ids) - 1), 0, -1):
            starts = [start for start in range(len(ids) - size) if ids[start : start + size] == ids[-size:]]
            if starts:
                expected = ids[starts[-1] + size :][:count]
                break
        assert propose(ids, count, longest=longest) == expected
