"""The ways of computing attention over whole rows, by name: which can run where, which is taken, and how each computes.

In: queries, keys and values before rotation, and their places. Out: softmax(q k / sqrt(d)) v. All are equal by test to explicit loops,
gradients too. ``auto`` takes the first of the device's list that can run; one that is asked for by name and cannot is refused with the
reason. Attention over a cache is the cache's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from beichen.errors import SettingsError
from beichen.nn import kernels
from beichen.nn.documents import attention_by_document
from beichen.nn.places import BackendName, Places
from beichen.nn.rope import rotate
from beichen.nn.visibility import Ends, Visibility

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What decides which way can run, but for the rows themselves."""

    device: torch.device
    dtype: torch.dtype
    dropout: float = 0.0
    gradient: bool = True

    def __str__(self) -> str:
        return f"{self.device.type}, {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One layer's attention."""

    qkv: Tensor  # [rows, tokens, (heads + 2 key_value_heads) * head_dim]
    places: Places
    num_key_value_heads: int
    head_dim: int
    dropout: float = 0.0

    @property
    def circumstances(self) -> Circumstances:
        return Circumstances(device=self.qkv.device, dtype=self.qkv.dtype, dropout=self.dropout, gradient=self.qkv.requires_grad)

    @property
    def scale(self) -> float:
        return 1.0 / math.sqrt(self.head_dim)

    @property
    def seen(self) -> Visibility:
        """All of a row, where nothing else is said."""
        seen = self.places.seen
        return Visibility(torch.zeros(self.qkv.shape[:2], dtype=torch.int32, device=self.qkv.device)) if seen is None else seen

    def rotated(self) -> tuple[Tensor, Tensor, Tensor]:
        """query, key, value [rows, (key_value_)heads, tokens, head_dim]"""
        query, key, value = split_heads(self.qkv, self.num_key_value_heads, self.head_dim)
        query, key = rotate(query, self.places.cos, self.places.sin), rotate(key, self.places.cos, self.places.sin)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to compute: why it cannot run (None: it can), and how it does; -> [rows, heads, tokens, head_dim]."""

    why_not: Callable[[Circumstances], str | None]
    run: Callable[[Call], Tensor]
    documents_only: bool = False  # it takes no intervals but those of documents that stand side by side


def split_heads(qkv: Tensor, num_key_value_heads: int, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of the fused projection [rows, tokens, (heads + 2 key_value_heads) * head_dim].

    -> query, key, value [rows, tokens, (key_value_)heads, head_dim]
    """
    heads = qkv.unflatten(-1, (-1, head_dim))
    query, key, value = heads.split((heads.shape[2] - 2 * num_key_value_heads, num_key_value_heads, num_key_value_heads), dim=2)
    return query, key, value


def attend(call: Call, wanted: BackendName) -> Tensor:
    """Attention in the way that is wanted.  -> [rows, tokens, heads * head_dim]"""
    return BACKENDS[choose(wanted, call.circumstances, call.places.seen)].run(call).transpose(1, 2).flatten(2)


def choose(wanted: BackendName, given: Circumstances, seen: Visibility | None) -> str:
    """The name of the way that is taken. seen: None, where all see all before them. Raises SettingsError if the wanted one cannot run."""
    if wanted != "auto":
        require(wanted, given)
        if seen is not None and BACKENDS[wanted].documents_only and seen.ends is None:
            raise SettingsError(f"attention: {wanted} takes rows of documents, and these are not", remedy="choose attention: auto")
        return wanted
    for name in AUTO.get(given.device.type, ()):
        if BACKENDS[name].why_not(given) is not None:
            continue
        if name == "kernels" or (seen is not None and not (BACKENDS[name].documents_only and seen.ends is None)):
            return name
    return "sdpa"  # causal where nothing is packed, which the device has a kernel for; a mask for the rest


def require(wanted: BackendName, given: Circumstances) -> None:
    """Raises SettingsError where the wanted way cannot run."""
    if wanted != "auto" and (why := BACKENDS[wanted].why_not(given)):
        able = ", ".join(name for name, backend in BACKENDS.items() if backend.why_not(given) is None)
        raise SettingsError(f"attention: {wanted} cannot run here ({given}): {why}", remedy=f"choose auto, or one of {able}")


def explain(wanted: BackendName, given: Circumstances) -> str:
    """What packed rows are computed with, and why nothing that would come before it is; for people."""
    if wanted != "auto":
        return f"{wanted}, as asked for"
    passed: list[str] = []
    for name in (*AUTO.get(given.device.type, ()), "sdpa"):
        why = BACKENDS[name].why_not(given)
        if why is None:
            return f"{name} ({'; '.join([str(given), *passed])})"
        passed.append(f"{name}: {why}")
    raise RuntimeError("sdpa runs everywhere")


def _why_no_kernels(given: Circumstances) -> str | None:
    if given.device.type != "cpu":
        return "are for the CPU"
    if given.dtype != torch.bfloat16:
        return f"take bfloat16, not {str(given.dtype).removeprefix('torch.')}"
    return "know no dropout" if given.dropout else None if kernels.status().available else kernels.status().reason


def _kernels(call: Call) -> Tensor:
    num_heads = call.qkv.shape[2] // call.head_dim - 2 * call.num_key_value_heads
    out = kernels.rope_attention(
        call.qkv.contiguous(), call.places.cos, call.places.sin, call.seen.first_visible,
        num_heads=num_heads, num_key_value_heads=call.num_key_value_heads, scale=call.scale,
    )  # fmt: skip
    return out.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _documents(call: Call) -> Tensor:
    lengths = call.seen.lengths
    assert lengths is not None
    return attention_by_document(*call.rotated(), lengths, scale=call.scale, dropout=call.dropout)


def _why_no_packed_rows(given: Circumstances) -> str | None:
    if given.device.type != "cuda":
        return f"runs on NVIDIA's accelerators, not on {given.device.type}"
    return None if given.dtype in HALVES else f"takes float16 and bfloat16, not {str(given.dtype).removeprefix('torch.')}"


def packed(call: Call, kernel: Callable[[Tensor, Tensor, Tensor, Ends], Tensor]) -> Tensor:
    """All rows as one sequence of documents; kernel: [positions, (key_value_)heads, head_dim] -> like the query."""
    ends = call.seen.ends
    assert ends is not None
    query, key, value = (tensor.transpose(1, 2).flatten(0, 1) for tensor in call.rotated())
    return kernel(query, key, value, ends).unflatten(0, call.qkv.shape[:2]).transpose(1, 2)


def _why_no_flash(given: Circumstances) -> str | None:
    return "the package flash-attn is not installed" if importlib.util.find_spec("flash_attn") is None else _why_no_packed_rows(given)


def _flash(call: Call) -> Tensor:
    function = importlib.import_module("flash_attn").flash_attn_varlen_func

    def kernel(query: Tensor, key: Tensor, value: Tensor, ends: Ends) -> Tensor:
        sizes = (ends.cumulative, ends.cumulative, ends.longest, ends.longest)
        found: Tensor = function(query, key, value, *sizes, dropout_p=call.dropout, softmax_scale=call.scale, causal=True)
        return found

    return packed(call, kernel)


def _why_no_varlen(given: Circumstances) -> str | None:
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return "this torch has no variable-length attention"
    return "knows no dropout" if given.dropout else _why_no_packed_rows(given)


def _varlen(call: Call) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # late: not every torch has it

    def kernel(query: Tensor, key: Tensor, value: Tensor, ends: Ends) -> Tensor:
        sizes = (ends.cumulative, ends.cumulative, ends.longest, ends.longest)
        found = varlen_attn(
            query, key, value, *sizes, scale=call.scale, window_size=(-1, 0), enable_gqa=key.shape[1] != query.shape[1]
        )  # fmt: skip
        assert isinstance(found, Tensor)
        return found

    return packed(call, kernel)


def _why_no_flex(given: Circumstances) -> str | None:
    if given.dropout:
        return "knows no dropout"
    if given.device.type == "cpu":
        return "has no gradient on the CPU" if given.gradient else None
    return None if given.device.type == "cuda" else f"is not compiled for {given.device.type}"


@cache
def _flex_function(device: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention  # late: it loads the compiler

    function: Callable[..., Any] = flex_attention
    return torch.compile(function) if device == "cuda" else function


def _flex(call: Call) -> Tensor:
    query, key, value = call.rotated()
    found: Tensor = _flex_function(query.device.type)(
        query, key, value, block_mask=call.seen.blocks, scale=call.scale, enable_gqa=key.shape[1] != query.shape[1]
    )
    return found


def _sdpa(call: Call) -> Tensor:
    query, key, value = call.rotated()
    mask = None if call.places.seen is None else call.seen.mask
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, dropout_p=call.dropout, enable_gqa=key.shape[1] != query.shape[1],
        scale=call.scale,
    )  # fmt: skip


def _always(given: Circumstances) -> None:
    return None


BACKENDS: dict[str, Backend] = {
    "kernels": Backend(why_not=_why_no_kernels, run=_kernels),  # ours, rotation included
    "documents": Backend(
        why_not=lambda given: None if given.device.type == "cpu" else "takes a product for each document, too small for an accelerator",
        run=_documents, documents_only=True,
    ),
    "flash": Backend(why_not=_why_no_flash, run=_flash, documents_only=True),
    "varlen": Backend(why_not=_why_no_varlen, run=_varlen, documents_only=True),
    "flex": Backend(why_not=_why_no_flex, run=_flex),
    "sdpa": Backend(why_not=_always, run=_sdpa),
}  # fmt: skip
AUTO = {"cpu": ("kernels", "documents"), "cuda": ("flash", "varlen", "flex")}  # in this order; else, and elsewhere, sdpa
