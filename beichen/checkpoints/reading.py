"""A folder in published layout, opened for reading: its config, and its tensors by name, shard by shard.

Files: ``model.safetensors``, shards with an index (safetensors or ``.bin``, names with ``-`` or ``_``), or a single weights file.
The index rules: files that it does not name are ignored. A file that cannot be read is named in the error.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from beichen.errors import CheckpointError

CONFIG = "config.json"
SINGLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pth")


class Shard(Protocol):
    """One open weights file."""

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def tensor(self, name: str) -> Tensor: ...


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an error with file and line."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: not JSON ({error.msg})", remedy="the file is damaged; fetch it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, not an object")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The published config of a checkpoint folder."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder", remedy="give the folder that holds config.json and the weights")
    path = folder / CONFIG
    if not path.exists():
        inside = sorted(entry.name for entry in folder.iterdir())[:8]
        raise CheckpointError(
            f"{folder}: no config.json, so it is not a checkpoint folder (it holds {', '.join(inside) if inside else 'nothing'})",
            remedy="give the folder that holds config.json and the weights",
        )
    return read_json(path)


class WeightFiles:
    """Where each published tensor lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        single = [folder / name for name in SINGLE if (folder / name).exists()]
        indexes = [folder / name for name in INDEXES if (folder / name).exists()]
        if single or not indexes:
            path = single[0] if single else self._only_file()
            with open_shard(path) as shard:
                self.where: dict[str, Path] = dict.fromkeys(shard.names(), path)
        else:
            self.where = self._from_index(indexes[0])

    def shards(self) -> Iterator[tuple[Path, list[str]]]:
        """Each file with the tensors to be read from it."""
        by_path: dict[Path, list[str]] = {}
        for name, path in self.where.items():
            by_path.setdefault(path, []).append(name)
        yield from by_path.items()

    def _only_file(self) -> Path:
        files = sorted(path for path in self.folder.iterdir() if path.suffix in SUFFIXES)
        if len(files) == 1:
            return files[0]
        if not files:
            raise CheckpointError(f"{self.folder}: no weights (*.safetensors, *.bin)", remedy="the download may be incomplete")
        raise CheckpointError(
            f"{self.folder}: several weights files ({', '.join(path.name for path in files[:4])}, ...) and no index for them",
            remedy=f"add {INDEXES[0]}",
        )

    def _from_index(self, index: Path) -> dict[str, Path]:
        table = read_json(index).get("weight_map")
        if not isinstance(table, Mapping) or not table or not all(isinstance(name, str) for name in table.values()):
            raise CheckpointError(f"{index}: 'weight_map' is not a table of tensor name -> file name")
        escaping = sorted({name for name in table.values() if Path(name).name != name})
        if escaping:
            raise CheckpointError(f"{index}: names files outside its folder: {', '.join(escaping[:4])}")
        where = {name: self.folder / file for name, file in table.items()}
        absent = sorted({path.name for path in where.values() if not path.exists()})
        if absent:
            raise CheckpointError(
                f"{self.folder}: {index.name} names shards that are missing: {', '.join(absent)}", remedy="fetch them again"
            )
        return where


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """Open a weights file without reading its tensors; a damaged one is named."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                yield _SafetensorsShard(file)
        else:
            yield _PickleShard(path)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as weights, it is truncated or damaged ({reason})", remedy="fetch the file again"
        ) from error


class _SafetensorsShard:
    def __init__(self, file: Any) -> None:
        self._file = file

    def names(self) -> list[str]:
        return list(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        stored = self._file.get_slice(name).get_dtype()
        if stored not in _SAFETENSORS_DTYPES:
            raise CheckpointError(f"{name} is stored as {stored}, a number format that is not supported")
        return _SAFETENSORS_DTYPES[stored]

    def tensor(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class _PickleShard:
    """A ``torch.save`` file, read by the weights-only unpickler and mapped where its form allows."""

    def __init__(self, path: Path) -> None:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
            raise ValueError("it does not hold a table of tensors")
        self._tensors: Mapping[str, Tensor] = loaded

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
