"""What a pass sees, in every form: intervals that are no documents are noticed, and a form is made once."""

from __future__ import annotations

import torch

from beichen.nn.visibility import Visibility


def test_documents_and_what_is_none():
    assert Visibility(torch.tensor([[0, 0, 1, 1]])).ends is None, "one begins in the middle of what came before"
    assert Visibility(torch.tensor([[0, 0, 2, 2], [1, 1, 1, 1]])).ends is None
    found = Visibility(torch.tensor([[0, 0, 2, 2], [0, 1, 2, 3]])).ends
    assert found is not None and found.cumulative.tolist() == [0, 2, 4, 5, 6, 7, 8] and found.longest == 2


def test_every_form_says_the_same():
    generator = torch.Generator().manual_seed(0)
    begins = torch.rand(3, 40, generator=generator) < 0.2
    begins[:, 0] = True
    starts = torch.where(begins, torch.arange(40), 0).cummax(1).values.int()
    seen = Visibility(starts)
    assert seen.mask is seen.mask and seen.lengths is not None and seen.ends is not None
    assert [sum(length for length, _ in row) for row in seen.lengths] == [40] * 3
    longest = max(length for row in seen.lengths for length, alone in row if not alone)
    assert seen.ends.longest == longest and int(seen.ends.cumulative[-1]) == 120
    documents = torch.repeat_interleave(torch.arange(len(seen.ends.cumulative) - 1), seen.ends.cumulative.diff()).view(3, 40)
    alike = documents[:, :, None] == documents[:, None]
    assert torch.equal(seen.mask[:, 0], alike & torch.ones(40, 40, dtype=torch.bool).tril())
