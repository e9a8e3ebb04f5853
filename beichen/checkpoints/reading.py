"""A folder in published layout, opened for reading: its config, and its tensors by name, shard by shard.

Files: ``model.safetensors``, shards with an index (safetensors or ``.bin``, names with ``-`` or ``_``), or a single weights file.
The index rules: files that it does not name are ignored. A file that cannot be read is named in the error.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from beichen.checkpoints.published_files import CONFIG, INDEXES, SINGLE, SUFFIXES
from beichen.errors import CheckpointError, nearest

UNFINISHED = (".incomplete", ".aria2", ".part", ".crdownload")  # what downloaders call a file that is not all there
MAPPED_BYTES = 16 * 2**20

_POINTER = b"version https://git-lfs.github.com/spec/"
_ONE_OF_MANY = re.compile(r"[-_](\d+)-of-(\d+)\.\w+$")


class Shard(Protocol):
    """One open weights file."""

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def tensor(self, name: str) -> Tensor: ...


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an error with file and line."""
    if path.exists():
        refuse_pointer(path)
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path}:{error.lineno}: not JSON ({error.msg})",
            remedy=("the file is damaged; fetch it again" if path.suffix == ".json" else "give a checkpoint folder, or its config.json"),
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, not an object")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The published config of a checkpoint folder."""
    if not folder.is_dir():
        beside = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
        raise CheckpointError(
            f"{folder}: no such folder{nearest(folder.name, beside)}", remedy="give the folder that holds config.json and the weights"
        )
    path = folder / CONFIG
    if not path.exists():
        inside = sorted(entry.name for entry in folder.iterdir())[:8]
        if {"settings.yaml", "state"} <= {entry.name for entry in folder.iterdir()}:
            raise CheckpointError(
                f"{folder}: a training run that has not ended, so it holds no model yet",
                remedy=f"let it go on: the command that began it, or beichen train --config {folder / 'settings.yaml'}",
            )
        raise CheckpointError(
            f"{folder}: no config.json, so it is not a checkpoint folder (it holds {', '.join(inside) if inside else 'nothing'})",
            remedy="give the folder that holds config.json and the weights",
        )
    return read_json(path)


def refuse_pointer(path: Path) -> None:
    """An error if the file is not itself but a Git LFS pointer to it: a clone without ``git lfs`` leaves such files."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise CheckpointError(
                f"{path}: not the file itself but a Git LFS pointer to it, {path.stat().st_size} bytes of text",
                remedy=f"`git lfs pull` in {path.parent}, or fetch the model by name (hf:org/name, ms:org/name)",
            )


def unfinished_downloads(folder: Path) -> list[str]:
    """Files of an interrupted download, in the folder or in what ``hf download --local-dir`` keeps below it."""
    places = (folder, folder / ".cache" / "huggingface" / "download")
    found = [entry.name for place in places if place.is_dir() for entry in place.iterdir() if entry.name.endswith(UNFINISHED)]
    return sorted(found)


class WeightFiles:
    """Where each tensor lies; ``stem`` is the name of the weights file, or of its index, if it is not one of the published names."""

    def __init__(self, folder: Path, *, stem: str | None = None) -> None:
        self.folder = folder
        singles, tables = (SINGLE, INDEXES) if stem is None else ((f"{stem}.safetensors",), (f"{stem}.safetensors.index.json",))
        single = [folder / name for name in singles if (folder / name).exists()]
        indexes = [folder / name for name in tables if (folder / name).exists()]
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
        parts = [match for path in files if (match := _ONE_OF_MANY.search(path.name))]
        if len(files) == 1 and not (parts and int(parts[0][2]) > 1):
            return files[0]
        if not files:
            raise self._incomplete("no weights (*.safetensors, *.bin)")
        if parts:
            total = int(parts[0][2])
            absent = sorted(set(range(1, total + 1)) - {int(match[1]) for match in parts})
            lacking = f", lacks number {', '.join(map(str, absent))}" if absent else ""
            raise self._incomplete(f"no index for its shards ({INDEXES[0]}); it holds {len(parts)} of {total}{lacking}")
        raise CheckpointError(
            f"{self.folder}: several weights files ({', '.join(path.name for path in files[:4])}, ...) and no index for them",
            remedy=f"add {INDEXES[0]}",
        )

    def _incomplete(self, what: str) -> CheckpointError:
        """Only a part of the model is here; says what is half-written, where something is."""
        unfinished = unfinished_downloads(self.folder)
        note = f"; unfinished: {', '.join(unfinished)}" if unfinished else ""
        return CheckpointError(
            f"{self.folder}: {what}{note}",
            remedy="the download was not finished: run it again, it goes on where it stopped; or fetch the model by name (hf:org/name)",
        )

    def _from_index(self, index: Path) -> dict[str, Path]:
        table = read_json(index).get("weight_map")
        if not isinstance(table, Mapping) or not table or not all(isinstance(name, str) for name in table.values()):
            raise CheckpointError(f"{index}: 'weight_map' is not a table of tensor name -> file name")
        escaping = sorted({name for name in table.values() if Path(name).name != name})
        if escaping:
            raise CheckpointError(f"{index}: names files outside its folder: {', '.join(escaping[:4])}")
        where = {name: self.folder / file for name, file in table.items()}
        shards = {path.name: path for path in where.values()}
        absent = sorted(name for name, path in shards.items() if not path.exists())
        if absent:
            raise self._incomplete(f"{index.name} names {len(shards)} shards, {len(absent)} missing: {', '.join(absent)}")
        return where


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """Open a weights file without reading its tensors; one that is damaged, or no weights at all, is named."""
    refuse_pointer(path)
    try:
        path.open("rb").close()  # safetensors calls every file missing that it may not read
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", remedy="check the path and its permissions") from error
    try:
        yield _SafetensorsShard(path) if path.suffix == ".safetensors" else _PickleShard(path)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read as weights, it is truncated or damaged ({reason})", remedy="fetch the file again"
        ) from error


class _SafetensorsShard:
    """Mapped, and mapped anew after every ``MAPPED_BYTES``: pages that were read count as memory of this process until then."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._file: Any = safe_open(path, framework="pt")

    def names(self) -> list[str]:
        return list(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        stored = self._file.get_slice(name).get_dtype()
        if stored not in _SAFETENSORS_DTYPES:
            raise CheckpointError(f"{self._path.name}: {name} is stored as {stored}, a number format that is not supported")
        return _SAFETENSORS_DTYPES[stored]

    def tensor(self, name: str) -> Tensor:
        if self._read >= MAPPED_BYTES:
            self._file, self._read = safe_open(self._path, framework="pt"), 0
        tensor: Tensor = self._file.get_tensor(name)
        self._read += tensor.nbytes
        return tensor


class _PickleShard:
    """A ``torch.save`` file, read by the weights-only unpickler; mapped in the same way where its form allows, else held whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._is_mapped = zipfile.is_zipfile(path)
        self._tensors = self._load()

    def _load(self) -> Mapping[str, Tensor]:
        loaded = torch.load(self._path, map_location="cpu", weights_only=True, mmap=self._is_mapped)
        if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
            raise ValueError("it does not hold a table of tensors")
        return loaded

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def tensor(self, name: str) -> Tensor:
        if self._is_mapped and self._read >= MAPPED_BYTES:
            self._tensors, self._read = self._load(), 0
        tensor = self._tensors[name]
        self._read += tensor.nbytes
        return tensor


_SAFETENSORS_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
