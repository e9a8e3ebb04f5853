"""Cross-entropy fused with the head: value and gradients of plain torch, over scored positions alone, in any chunking."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn import cross_entropy, kernels
from beichen.nn.cross_entropy import IGNORED, linear_cross_entropy, position_losses
from tests import needs


def sample(rows: int, vocab: int, scored: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows + vocab)
    hidden, weight = torch.randn(rows, 12, generator=generator), torch.randn(vocab, 12, generator=generator)
    targets = torch.randint(0, vocab, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) >= scored] = IGNORED
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight = (tensor.detach().double().requires_grad_() for tensor in (hidden, weight))
    total = F.cross_entropy(hidden @ weight.T * scale, targets, reduction="sum", ignore_index=IGNORED)
    total.backward()
    assert hidden.grad is not None and weight.grad is not None
    return total.detach(), hidden.grad, weight.grad


@pytest.mark.parametrize(("rows", "vocab"), [(1, 2), (7, 30), (50, 300)])
@pytest.mark.parametrize("scored", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("scale", [1.0, 0.125, 3.0])
@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_equals_plain_torch(rows, vocab, scored, scale, chunk, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", chunk)
    hidden, weight, targets = sample(rows, vocab, scored)
    total = linear_cross_entropy(hidden, weight, targets, logit_scale=scale)
    (total * 0.7).backward()
    expected, hidden_gradient, weight_gradient = plain(hidden, weight, targets, scale)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.detach().double(), expected, rtol=1e-5, atol=1e-5)
    assert hidden.grad is not None and weight.grad is not None
    torch.testing.assert_close(hidden.grad.double(), 0.7 * hidden_gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weight.grad.double(), 0.7 * weight_gradient, rtol=1e-4, atol=1e-4)
    assert not hidden.grad[targets == IGNORED].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_scored_is_zero_and_no_nan(dtype):
    hidden, weight, targets = sample(6, 9, 0.0, dtype)
    total = linear_cross_entropy(hidden, weight, targets)
    total.backward()
    assert float(total.detach()) == 0.0
    assert hidden.grad is not None and weight.grad is not None
    assert not hidden.grad.any() and not weight.grad.any()
    assert position_losses(hidden, weight, targets).tolist() == [0.0] * 6


@pytest.mark.parametrize("frozen", ["hidden", "weight", "both"])
def test_what_needs_no_gradient_gets_none(frozen):
    """A frozen head or frozen layers; without any gradient it is plain evaluation."""
    hidden, weight, targets = sample(9, 20, 0.8)
    expected, hidden_gradient, weight_gradient = plain(hidden, weight, targets, 1.0)
    hidden.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "hidden")
    total = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(total.detach().double(), expected, rtol=1e-5, atol=1e-5)
    if frozen == "both":
        assert not total.requires_grad
        return
    total.backward()
    kept, gradient = (hidden, hidden_gradient) if frozen == "weight" else (weight, weight_gradient)
    assert kept.grad is not None
    torch.testing.assert_close(kept.grad.double(), gradient, rtol=1e-4, atol=1e-5)


def test_huge_logits_stay_finite():
    hidden, weight, targets = sample(5, 7, 1.0)
    total = linear_cross_entropy(hidden, weight, targets, logit_scale=1e4)
    total.backward()
    assert torch.isfinite(total) and hidden.grad is not None and torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_position_losses_sum_to_the_loss(scale):
    hidden, weight, targets = sample(60, 40, 0.7)
    losses = position_losses(hidden, weight, targets, logit_scale=scale)
    assert losses.shape == (60,) and losses.dtype == torch.float32 and not losses.requires_grad
    assert not losses[targets == IGNORED].any() and bool((losses[targets != IGNORED] > 0).all())
    torch.testing.assert_close(losses.sum(), linear_cross_entropy(hidden, weight, targets, logit_scale=scale).detach())


@needs.compiled_kernels
def test_kernels_and_torch_agree():
    """bf16 logits carry 2**-9 of themselves; the sum over positions averages that, single gradients keep it."""
    hidden, weight, targets = sample(100, 300, 0.8, torch.bfloat16)
    expected, hidden_gradient, weight_gradient = plain(hidden, weight, targets, 1.0)

    def check() -> None:
        hidden.grad = weight.grad = None
        total = linear_cross_entropy(hidden, weight, targets)
        total.backward()
        assert float(total.detach()) == pytest.approx(float(expected), rel=2e-3)
        assert hidden.grad is not None and weight.grad is not None
        for found, true in ((hidden.grad, hidden_gradient), (weight.grad, weight_gradient)):
            assert float((found.double() - true).norm() / true.norm()) < 0.02

    check()
    with kernels.switched_off():
        check()
