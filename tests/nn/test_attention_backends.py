"""Every way of computing attention equals explicit softmax loops, in value and gradient; one that cannot run here says why."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from beichen.errors import SettingsError
from beichen.nn.attention_backends import AUTO, BACKENDS, Call, Circumstances, attend, choose, explain, packed, require
from beichen.nn.places import BackendName, Places
from beichen.nn.visibility import Ends
from tests.nn.slow_decoder import packed_row

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAYOUTS = ("causal", "packed", "window")
HEADS = [(4, 2, 8), (3, 3, 16), (4, 1, 32)]  # query heads, key-value heads, width
CPU = Circumstances(device=torch.device("cpu"), dtype=torch.float32)


def starts_of(layout: str, rows: int, tokens: int, seed: int) -> Tensor | None:
    rng = random.Random(seed)
    if layout == "causal":
        return None
    if layout == "window":  # intervals that are no documents
        return (torch.arange(tokens) - torch.tensor([[rng.randint(2, 9)] for _ in range(rows)])).clamp(min=0).int()
    lengths = [[rng.randint(1, 9) for _ in range(tokens)] for _ in range(rows)]
    return torch.cat([packed_row(row)[1][:, :tokens] for row in lengths]).int()


def call_of(layout: str, *, heads: tuple[int, int, int] = HEADS[0], tokens: int = 23, dtype: torch.dtype = torch.float32) -> Call:
    query_heads, groups, width = heads
    generator = torch.Generator().manual_seed(tokens + width)
    qkv = torch.randn(3, tokens, (query_heads + 2 * groups) * width, generator=generator)
    angles = torch.rand(3, tokens, width // 2, generator=generator) * 6
    starts = starts_of(layout, 3, tokens, tokens + query_heads)
    places = Places(angles.cos().to(DEVICE), angles.sin().to(DEVICE), None, None if starts is None else starts.to(DEVICE))
    return Call(qkv=qkv.to(DEVICE, dtype).requires_grad_(), places=places, num_key_value_heads=groups, head_dim=width)


def loops(query: Tensor, key: Tensor, value: Tensor, first_visible: Tensor) -> Tensor:
    """One softmax for each query and head. query [rows, tokens, heads, d]; key, value [rows, tokens, key_value_heads, d].  -> like query"""
    rows, tokens, heads, width = query.shape
    group = heads // key.shape[2]
    found = []
    for row, token, head in itertools.product(range(rows), range(tokens), range(heads)):
        columns = slice(int(first_visible[row, token]), token + 1)
        scores = key[row, columns, head // group] @ query[row, token, head] / math.sqrt(width)
        found.append(scores.softmax(0) @ value[row, columns, head // group])
    return torch.stack(found).view(rows, tokens, heads, width)


def expected_of(call: Call) -> tuple[Tensor, Tensor]:
    """Loops in float64, and the gradient of the sum of squares.  -> [rows, tokens, heads * head_dim], like qkv"""
    with torch.enable_grad():
        qkv = call.qkv.detach().cpu().double().requires_grad_()
        heads = qkv.unflatten(-1, (-1, call.head_dim))
        query, key, value = heads.split((heads.shape[2] - 2 * call.num_key_value_heads, *[call.num_key_value_heads] * 2), dim=2)
        cos, sin = call.places.cos.cpu().double(), call.places.sin.cpu().double()
        seen = torch.zeros(qkv.shape[:2], dtype=torch.int32) if call.places.first_visible is None else call.places.first_visible.cpu()
        out = loops(turned(query, cos, sin), turned(key, cos, sin), value, seen).flatten(2)
        (gradient,) = torch.autograd.grad(out.square().sum(), qkv)
    return out.detach(), gradient


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pair (p, p + d/2) of every head by its angle."""
    left, right = x.chunk(2, dim=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def able(name: str, call: Call) -> None:
    """Skip where the way cannot run, with its own reason."""
    if why := BACKENDS[name].why_not(call.circumstances):
        pytest.skip(f"{name} ({call.circumstances}): {why}")
    if BACKENDS[name].documents_only and call.places.seen is not None and call.places.seen.ends is None:
        pytest.skip(f"{name} takes documents only")


def dtype_of(name: str) -> torch.dtype:
    return torch.bfloat16 if name in ("kernels", "flash", "varlen") else torch.float32


@pytest.mark.parametrize("tokens", [1, 2, 23])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BACKENDS)
def test_each_way_equals_explicit_loops(name, layout, heads, tokens):
    """Float32: to 1e-5; bfloat16 rounds each of some ten steps to 8 bits: norm of the difference within 3 %."""
    call = call_of(layout, heads=heads, tokens=tokens, dtype=dtype_of(name))
    able(name, call)
    out = attend(call, name)
    out.float().square().sum().backward()
    assert call.qkv.grad is not None
    for found, expected in zip((out.detach(), call.qkv.grad), expected_of(call), strict=True):
        bound = 3e-2 if dtype_of(name) == torch.bfloat16 else 1e-5
        assert float((found.cpu().double() - expected).norm()) <= bound * float(expected.norm()) + 1e-9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flex_sees_what_the_loops_see_where_it_has_no_gradient(layout):
    call = replace(call_of(layout), qkv=call_of(layout).qkv.detach())
    with torch.no_grad():
        torch.testing.assert_close(attend(call, "flex").double().cpu(), expected_of(call)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("heads", HEADS)
def test_packed_rows_are_one_sequence_of_documents(heads):
    """The wrapper of the variable-length kernels, around slow loops that keep their contract."""

    def slow(query: Tensor, key: Tensor, value: Tensor, ends: Ends) -> Tensor:
        found = torch.empty_like(query)
        for begin, end in zip(ends.cumulative[:-1].tolist(), ends.cumulative[1:].tolist(), strict=True):
            assert 0 < end - begin <= ends.longest
            part, seen = slice(begin, end), torch.zeros(1, end - begin, dtype=torch.int32)
            found[part] = loops(query[None, part], key[None, part], value[None, part], seen)[0]
        return found

    call = call_of("packed", heads=heads)
    with torch.no_grad():
        found = packed(call, slow).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found.double().cpu(), expected_of(call)[0], atol=1e-5, rtol=0)


def test_the_names_are_those_of_the_setting():
    assert set(get_args(BackendName)) == {"auto", *BACKENDS}
    assert {name for names in AUTO.values() for name in names} < set(BACKENDS)


def cuda(**changes: Any) -> Circumstances:
    return replace(CPU, device=torch.device("cuda"), **changes)


def test_the_choice_follows_device_format_and_rows(monkeypatch):
    documents, window = call_of("packed").places.seen, call_of("window").places.seen
    assert choose("auto", CPU, documents) == "documents"
    assert choose("auto", CPU, window) == choose("auto", CPU, None) == "sdpa"
    assert choose("auto", cuda(), documents) == choose("auto", cuda(), window) == "flex"
    assert choose("auto", cuda(dropout=0.1), documents) == "sdpa"
    assert choose("auto", replace(CPU, device=torch.device("xpu")), documents) == "sdpa"
    half = cuda(dtype=torch.bfloat16)
    assert choose("auto", half, window) == "flex" and choose("auto", half, None) == "sdpa"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "flash_attn" else name)
    assert choose("auto", half, documents) == "varlen"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert choose("auto", half, documents) == choose("auto", replace(half, dropout=0.1), documents) == "flash"


@pytest.mark.parametrize(
    ("wanted", "given", "reason"),
    [
        ("kernels", CPU, "take bfloat16, not float32"),
        ("kernels", replace(CPU, dtype=torch.bfloat16, dropout=0.1), "know no dropout"),
        ("documents", cuda(), "too small for an accelerator"),
        ("varlen", CPU, "runs on NVIDIA's accelerators, not on cpu"),
        ("varlen", cuda(), "takes float16 and bfloat16, not float32"),
        ("flex", CPU, "has no gradient on the CPU"),
        ("flex", replace(CPU, device=torch.device("xpu")), "is not compiled for xpu"),
    ],
)
def test_what_cannot_run_is_refused_with_what_is_missing(wanted, given, reason):
    with pytest.raises(SettingsError, match=rf"attention: {wanted} cannot run here .*{reason}") as fault:
        require(wanted, given)
    assert "sdpa" in str(fault.value.remedy)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="the package flash-attn is not installed"):
        require("flash", cuda(dtype=torch.bfloat16))


def test_rows_that_the_wanted_way_does_not_take_are_refused():
    with pytest.raises(SettingsError, match="documents takes rows of documents"):
        choose("documents", CPU, call_of("window").places.seen)


def test_the_choice_is_explained():
    assert explain("auto", CPU) == "documents (cpu, float32; kernels: take bfloat16, not float32)"
    assert explain("sdpa", CPU) == "sdpa, as asked for"
    assert explain("auto", cuda(dropout=0.1)).startswith("sdpa (cuda, float32; flash: ")
