"""Orthogonalisation for Muon: a matrix's nearest semi-orthogonal one, by five odd polynomial steps.

Source: Jordan et al., "Muon" (2024); coefficients of Amsel et al., "The Polar Express" (arXiv 2505.16932), which are optimal for
singular values in [1e-3, 1] after each of five steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


@torch.no_grad()
def orthogonalize(matrices: Tensor) -> Tensor:
    """[count, out, in] -> the same shape, singular values near 1. Computed in the dtype given (bf16 suffices)."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).type_as(x) * 1.02 + 1e-6)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.transpose(1, 2)  # [count, small, small]
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.transpose(1, 2)
