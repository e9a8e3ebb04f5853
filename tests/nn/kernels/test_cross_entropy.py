"""The fused head and loss equal a float64 reference, gradients too, for any chunk; ignored positions cost and count nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


def sample(positions: int, size: int, vocab: int, ignored: bool) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(positions)
    hidden, weight = torch.randn(positions, size).bfloat16(), (torch.randn(vocab, size) * 0.2).bfloat16()
    targets = torch.randint(0, vocab, (positions,))
    if ignored:
        targets[::3] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize(
    ("positions", "size", "vocab", "chunk", "ignored"), [(50, 64, 1000, None, True), (33, 64, 37, 8, True), (200, 128, 501, 64, False)]
)
@pytest.mark.parametrize(("scale", "z_loss"), [(1.0, 0.0), (0.7, 1e-2)])
def test_equals_reference(positions: int, size: int, vocab: int, chunk: int | None, ignored: bool, scale: float, z_loss: float) -> None:
    hidden, weight, targets = sample(positions, size, vocab, ignored)
    wide = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    logits = wide[0] @ wide[1].T * scale
    expected = F.cross_entropy(logits, targets, reduction="sum") + z_loss * logits.logsumexp(-1)[targets >= 0].square().sum()
    total = kernels.linear_cross_entropy(hidden, weight, targets, logit_scale=scale, z_loss=z_loss, chunk=chunk)
    (total * 0.25).backward()
    (expected * 0.25).backward()
    assert total.dtype == torch.float32 and error(total, expected) < 2e-3
    for found, wanted in zip((hidden, weight), wide, strict=True):
        assert found.grad is not None and wanted.grad is not None and error(found.grad, wanted.grad) < 0.008


def test_losses_by_position() -> None:
    hidden, weight, targets = sample(77, 32, 300, True)
    wanted = F.cross_entropy(hidden.double() @ weight.double().T, targets, reduction="none")
    found = kernels.position_losses(hidden, weight, targets)
    assert error(found, wanted) < 2e-3 and bool((found[targets < 0] == 0).all())


def test_a_target_outside_the_vocabulary_is_named() -> None:
    hidden, weight, targets = sample(5, 32, 40, False)
    targets[2] = 40
    with pytest.raises(ValueError, match=r"expected 0\.\.39"):
        kernels.linear_cross_entropy(hidden, weight, targets)


def test_nothing_scored_is_zero() -> None:
    hidden, weight, targets = sample(5, 32, 40, False)
    total = kernels.linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    total.backward()
    assert float(total.detach()) == 0.0 and hidden.grad is not None and not bool(hidden.grad.any())
