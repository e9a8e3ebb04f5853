"""Orthogonalisation keeps singular vectors and sends singular values near 1, in any shape, alone or in a stack."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from beichen.train.orthogonal import orthogonalize

SHAPES = [(16, 16), (8, 40), (40, 8), (64, 64), (1, 5), (5, 1)]
LOWEST, HIGHEST = 0.85, 1.15  # five steps leave this much around 1 for singular values above 1e-3 of the norm


def random_matrices(count: int, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """Singular values from 1 down to 0.01, which is above 1e-3 of the norm for these shapes."""
    generator = torch.Generator().manual_seed(seed)
    small = min(shape)
    left, right = (torch.linalg.qr(torch.randn(count, side, small, generator=generator)).Q for side in shape)
    return left * torch.logspace(0, -2, small) @ right.transpose(1, 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_singular_values_near_one_and_vectors_kept(shape, size):
    matrices = random_matrices(3, shape) * size
    found = orthogonalize(matrices)
    assert found.shape == matrices.shape
    for before, after in zip(matrices, found, strict=True):
        left, _, right = torch.linalg.svd(before, full_matrices=False)
        kept = left.T @ after @ right.T
        assert bool((kept.diagonal() > LOWEST).all()) and bool((kept.diagonal() < HIGHEST).all())
        assert float((kept - kept.diagonal().diag()).abs().max()) < 1e-3


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_suffices(shape):
    values = torch.linalg.svdvals(orthogonalize(random_matrices(2, shape).bfloat16()).float())
    assert float(values.min()) > 0.75 and float(values.max()) < 1.25


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stack_equals_its_matrices_alone_and_transposing_commutes(shape):
    matrices = random_matrices(4, shape)
    found = orthogonalize(matrices)
    for number in range(4):
        torch.testing.assert_close(orthogonalize(matrices[number : number + 1])[0], found[number], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(orthogonalize(matrices.transpose(1, 2)), found.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_nothing_stays_nothing():
    assert not orthogonalize(torch.zeros(2, 4, 6)).any()
