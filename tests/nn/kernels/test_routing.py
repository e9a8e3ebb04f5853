"""The router's kernel equals torch's operations in float64: scores, choices, weights and gradients, for every shape its tiles meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from beichen.nn import kernels
from beichen.nn.config import ExpertsConfig
from beichen.nn.routing import choose
from tests import needs

pytestmark = needs.compiled_kernels

SHAPES = [  # tokens, hidden, experts, choices
    (1, 9, 3, 2), (7, 16, 4, 4), (61, 70, 15, 4), (300, 33, 64, 6), (50, 200, 130, 8), (97, 64, 2, 1),
]  # fmt: skip
RULES = [("softmax", False), ("softmax", True), ("sigmoid", False), ("sigmoid", True)]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3}  # of gradients, which have the number format of what they belong to


def parts(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """x, router, bias, and the directions of the gradients of logits, scores and weights."""
    tokens, hidden, experts, choices = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    directions = [normal(tokens, size) for size in (experts, experts, choices)]
    return normal(tokens, hidden).to(dtype), (normal(experts, hidden) / hidden**0.5).to(dtype), normal(experts) / 10, directions


def config(experts: int, choices: int, rule: tuple[str, bool]) -> ExpertsConfig:
    changes: dict[str, Any] = {"scoring": rule[0], "normalize_top_k": rule[1]}
    return ExpertsConfig(num_experts=experts, num_experts_per_token=choices, intermediate_size=1, **changes)


def by_kernel(x: Tensor, router: Tensor, asked: ExpertsConfig, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return kernels.choose_experts(
        x, router, bias, choices=asked.num_experts_per_token, softmax=asked.scoring == "softmax", normalized=asked.normalize_top_k
    )  # fmt: skip


def gradients(found: tuple[Tensor, ...], directions: list[Tensor], wanted: tuple[int, ...], leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Of the sum, over the wanted of logits, scores and weights, of each along its direction."""
    outputs = [found[0], found[1], found[3]]
    parts = [(outputs[place] * directions[place].to(outputs[place].dtype)).sum() for place in wanted]
    return torch.autograd.grad(torch.stack(parts).sum(), leaves, retain_graph=True)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_in_float64(shape, dtype, rule, biased):
    x, router, bias, directions = parts(shape, dtype)
    asked = config(shape[2], shape[3], rule)
    leaves = [x.requires_grad_(), router.requires_grad_()]
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    found = by_kernel(x, router, asked, bias if biased else None)
    exact = choose(exact_leaves[0], exact_leaves[1], asked, bias.double() if biased else None)
    assert torch.equal(found[2], exact[2])
    for place in (0, 1, 3):
        torch.testing.assert_close(found[place].double(), exact[place], atol=2e-6, rtol=2e-6)
    always_one = rule[1] and shape[3] == 1  # the only weight: it has no gradient but rounding
    for wanted in ((0,), (1,), (0, 1, 2)) if always_one else ((0,), (1,), (2,), (0, 1, 2)):
        mine, correct = (gradients(*given) for given in ((found, directions, wanted, leaves), (exact, directions, wanted, exact_leaves)))
        for ours, theirs in zip(mine, correct, strict=True):
            assert ours.dtype == dtype
            assert float((ours.double() - theirs).norm() / theirs.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_number_of_threads_has_no_say(dtype):
    x, router, _, directions = parts((700, 130, 40, 6), dtype)
    leaves, asked = [x.requires_grad_(), router.requires_grad_()], config(40, 6, ("softmax", True))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found = by_kernel(x, router, asked, None)
            results.append([*found, *gradients(found, directions, (0, 1, 2), leaves)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(first, other) for result in results[1:] for first, other in zip(results[0], result, strict=True))


def test_of_equal_scores_the_first_counts_and_whatever_the_scores_are_choices_differ():
    router = torch.ones(5, 4)
    asked = config(5, 3, ("softmax", False))
    assert by_kernel(torch.ones(2, 4), router, asked, None)[2].tolist() == [[0, 1, 2]] * 2
    for value in (float("nan"), float("inf"), 1e38):
        for line in by_kernel(torch.full((2, 4), value), router, asked, None)[2].tolist():
            assert len(set(line)) == 3 and all(0 <= expert < 5 for expert in line)


def test_large_logits_neither_overflow_nor_lose_digits():
    logits = torch.tensor([[-300.0, 80.0, 79.5, 0.0, -104.0]])
    for rule, function in (("softmax", torch.softmax), ("sigmoid", lambda values, _: values.sigmoid())):
        scores = by_kernel(logits, torch.eye(5), config(5, 2, (rule, False)), None)[1]
        torch.testing.assert_close(scores.double(), function(logits.double(), -1), atol=1e-37, rtol=5e-7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        kernels.choose_experts(torch.zeros(3, 4), torch.zeros(2, 5), None, choices=1, softmax=True, normalized=False)
    with pytest.raises(ValueError, match="do not fit"):
        kernels.choose_experts(torch.zeros(3, 4), torch.zeros(2, 4), None, choices=3, softmax=True, normalized=False)
    with pytest.raises(TypeError, match="contiguous"):
        kernels.choose_experts(torch.zeros(3, 4), torch.zeros(2, 4).bfloat16(), None, choices=1, softmax=True, normalized=False)
    assert not kernels.can_run_router(torch.zeros(3, 4).double(), torch.zeros(2, 4).double())
