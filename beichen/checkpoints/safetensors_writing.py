"""Writing one ``.safetensors`` file tensor by tensor: only one tensor is in memory besides the model itself.

The format: 8 bytes little-endian header length, a JSON header, the raw tensors. A full disk appears as ``OSError``
(which ``util.files`` turns into ``StorageError``), and the digest is taken while the bytes pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_DTYPE_NAMES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: its form now, its values when its turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    values: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """In bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def planned(tensor: Tensor) -> Planned:
    """A tensor that is at hand."""
    return Planned(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def write_safetensors(path: Path, tensors: Mapping[str, Planned], metadata: Mapping[str, str] | None = None) -> str:
    """Write the file; the widest number formats first, so that every tensor is aligned.  -> SHA-256 of the file"""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, tensor in ordered:
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": tensor.shape, "data_offsets": (offset, offset + tensor.size)}
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for data in (len(text).to_bytes(8, "little"), text):
            file.write(data)
            digest.update(data)
        for name, tensor in ordered:
            values = tensor.values().detach().to(device="cpu", dtype=tensor.dtype).contiguous()
            if tuple(values.shape) != tensor.shape:
                raise ValueError(f"{name} was announced as {tensor.shape} and is {tuple(values.shape)}")
            raw = values.reshape(-1).view(torch.uint8).numpy().data
            file.write(raw)
            digest.update(raw)
    return digest.hexdigest()
