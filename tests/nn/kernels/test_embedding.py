"""Looking up equals torch; the gradient is the exact sum, rounded once."""

import pytest
import torch

from beichen.nn import kernels
from tests import needs

pytestmark = needs.compiled_kernels


@pytest.mark.parametrize(("positions", "vocab", "size"), [(40, 7, 16), (300, 1000, 50), (1, 3, 5), (0, 3, 16)])
def test_embedding_equals_torch(positions: int, vocab: int, size: int) -> None:
    torch.manual_seed(positions)
    weight = torch.randn(vocab, size).bfloat16().requires_grad_()
    ids = torch.randint(0, vocab, (positions,)).view(-1, 1)
    out = kernels.embedding(ids, weight)
    assert torch.equal(out, weight[ids])
    gradient = torch.randn(out.shape).bfloat16()
    out.backward(gradient)
    wanted = torch.zeros(vocab, size).index_add_(0, ids[:, 0], gradient[:, 0].float())
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.float(), wanted, rtol=0.005, atol=1e-6)


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(IndexError):
        kernels.embedding(torch.tensor([3]), torch.zeros(3, 4).bfloat16())
