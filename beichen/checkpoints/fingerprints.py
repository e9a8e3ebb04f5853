"""Which weights a folder holds: one SHA-256 over names, formats and values of its tensors, whatever files they are spread over.

An adapter is worth nothing on another base, and nothing but the weights themselves tells one base from another. Files that have neither
changed their size nor their time since they were read are taken to be the same, where that is allowed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.errors import CheckpointError
from beichen.nn.quantized import Kind
from beichen.util.progress import SILENT, Reporter

_END_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class BaseRecord:
    """The model that an adapter was trained on."""

    folder: str  # absolute, or the name on a hub
    sha256: str  # of its weights
    family: str
    dtype: str  # that it computed in
    quantized: Kind | None = None  # how its matrices were held
    files: dict[str, list[int]] = field(default_factory=dict)  # bytes and time of change, in nanoseconds


def record_base(
    place: Path | str, *, family: str, dtype: torch.dtype, quantized: Kind | None = None, reporter: Reporter = SILENT
) -> BaseRecord:  # fmt: skip
    """The record of the model in a folder, or of that name."""
    folder = find_folder(place)
    name = str(folder.resolve()) if Path(place) == folder else str(place)
    return BaseRecord(
        folder=name, sha256=weights_sha256(folder, reporter=reporter), family=family, dtype=str(dtype).removeprefix("torch."),
        quantized=quantized, files=_files(folder),
    )  # fmt: skip


def check_base(record: BaseRecord, folder: Path, *, thorough: bool = False, reporter: Reporter = SILENT) -> None:
    """Raises CheckpointError unless ``folder`` holds the weights on record. thorough: read them even if the files look untouched."""
    if not thorough and record.files and record.files == _files(folder):
        return
    found = weights_sha256(folder, reporter=reporter)
    if found != record.sha256:
        raise CheckpointError(
            f"{folder}: not the base that the adapter was trained on: its weights have SHA-256 {found[:12]}..., "
            f"the adapter's base had {record.sha256[:12]}... (then in {record.folder})",
            remedy="name the folder of that base (--base); on another one an adapter means nothing",
        )


def weights_sha256(folder: Path, *, reporter: Reporter = SILENT) -> str:
    """Of the sorted table 'name format shape sha256-of-values' of all tensors."""
    files = WeightFiles(folder)
    lines = []
    with reporter.track("base: SHA-256 of its weights", total=len(files.where), unit="tensors") as task:
        for path, held in files.shards():
            with open_shard(path) as shard:
                for name in held:
                    tensor = shard.tensor(name).contiguous()
                    values = hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().data).hexdigest()
                    lines.append(f"{name} {tensor.dtype} {list(tensor.shape)} {values}")
                    task.advance()
            del shard
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _files(folder: Path) -> dict[str, list[int]]:
    paths = sorted(set(WeightFiles(folder).where.values()))
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def folder_print(folder: Path) -> str:
    """16 letters that tell a model's folder from others, in no time: names and sizes of its files, small ones and the ends of large ones
    as a whole. For noticing that a folder was exchanged, not for proof."""
    found = hashlib.blake2b(digest_size=8)
    for file in sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith(".")):
        size = file.stat().st_size
        found.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            found.update(content.read(_END_BYTES))
            content.seek(max(0, size - _END_BYTES))
            found.update(content.read())
    return found.hexdigest()
