"""Log-probabilities of targets: equal to log_softmax of whole logits, with its gradients for any weighting of the positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beichen.nn import log_probabilities as room
from beichen.nn.log_probabilities import log_probabilities
from tests import needs


def given(dtype: torch.dtype = torch.float32, positions: int = 150) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(positions)
    hidden = torch.randn(positions, 32, generator=generator).to(dtype)
    weight = torch.randn(64, 32, generator=generator).to(dtype)
    targets = torch.randint(64, (positions,), generator=generator)
    counts = torch.randn(positions, generator=generator)  # of either sign, as preference losses weigh them
    return hidden, weight, targets, counts


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> Tensor:
    logits = (hidden.float() @ weight.float().T) * scale
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def gradients(found: Tensor, counts: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    return [gradient.float() for gradient in torch.autograd.grad((found * counts).sum(), wanted)]


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)], ids=["all", "head frozen", "head alone"])
@pytest.mark.parametrize("chunk", [64 * 64, 1 << 24], ids=["chunks", "one chunk"])
def test_equals_whole_logits(monkeypatch, scale, trained, chunk):
    monkeypatch.setattr(room, "CHUNK_LOGITS", chunk)
    hidden, weight, targets, counts = given()
    for tensor, wants in zip((hidden, weight), trained, strict=True):
        tensor.requires_grad_(wants)
    wanted = [tensor for tensor in (hidden, weight) if tensor.requires_grad]
    found, expected = log_probabilities(hidden, weight, targets, logit_scale=scale), plain(hidden, weight, targets, scale)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(found, counts, wanted), gradients(expected, counts, wanted), strict=True):
        assert float((ours - theirs).abs().max()) <= 2e-6 * float(theirs.abs().max())


@needs.compiled_kernels
@pytest.mark.parametrize("frozen", [False, True])
def test_kernels_agree_with_torch_in_bfloat16(frozen):
    hidden, weight, targets, counts = given(torch.bfloat16)
    wanted = [hidden.requires_grad_()] if frozen else [hidden.requires_grad_(), weight.requires_grad_()]
    found = log_probabilities(hidden, weight, targets)
    expected = plain(hidden, weight, targets, 1.0)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=5e-2)
    for ours, theirs in zip(gradients(found, counts, wanted), gradients(expected, counts, wanted), strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 2e-2


def test_nothing_scored_has_gradients_of_zero():
    hidden, weight, targets, _ = given(positions=0)
    found = log_probabilities(hidden, weight.requires_grad_(), targets)
    assert found.shape == (0,)
    assert not torch.autograd.grad(found.sum(), [weight])[0].any()


def test_without_gradients_nothing_is_kept():
    hidden, weight, targets, _ = given()
    weight.requires_grad_()
    with torch.no_grad():
        assert not log_probabilities(hidden, weight, targets).requires_grad
