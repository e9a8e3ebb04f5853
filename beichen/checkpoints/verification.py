"""Whether a checkpoint folder is still what was written: by its digests, or, without them, by everything else that can be known.

A folder of another tool carries none. Then its shards must open, its tensors must be those that config.json asks for and hold finite
numbers, and a file of the Hugging Face cache must have the SHA-256 that it is called by. A flipped bit elsewhere stays unseen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from beichen.checkpoints.digests import DIGESTS, verify_digests
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import compare_files, load_config, stored_copies
from beichen.checkpoints.reading import WeightFiles, open_shard, read_json
from beichen.errors import ConfigError
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.util.files import sha256_of
from beichen.util.progress import SILENT, Reporter

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Verification:
    """What was compared, and what is wrong; each a sentence that names its file."""

    folder: Path
    has_digests: bool
    compared: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def verify_checkpoint(place: Path | str, *, reporter: Reporter = SILENT) -> Verification:
    """Compare all that can be compared. A shard that cannot be opened at all, or is missing, is a ``CheckpointError`` naming it."""
    folder = find_folder(place, reporter=reporter)
    found = Verification(folder, has_digests=(folder / DIGESTS).exists())
    if found.has_digests:
        noted = read_json(folder / DIGESTS).get("files") or {}
        found.faults = verify_digests(folder)
        found.compared.append(f"{len(noted)} files with the SHA-256 noted when they were written")
        return found
    _compare_tensors(folder, found)
    _compare_names_of_blobs(folder, found)
    _look_at_numbers(folder, found, reporter)
    return found


def _compare_tensors(folder: Path, found: Verification) -> None:
    try:
        config, _, family = load_config(folder)
    except ConfigError as fault:
        found.not_compared.append(f"names and shapes of tensors: {fault.args[0]}")
        return
    names, files = load_family(family).names, WeightFiles(folder)
    with torch.device("meta"):
        decoder = Decoder(config)
    layout = names.views(decoder.state_dict(), config, bare=names.omits_prefix(files.where))
    compare_files(files, {name: view.shape for name, view in layout.items()}, stored_copies(files.where, names, config), names)
    found.compared.append(f"{len(layout)} tensors with the names and shapes that config.json asks for")


def _compare_names_of_blobs(folder: Path, found: Verification) -> None:
    """In the cache of Hugging Face, a large file is a link to one that is called by its SHA-256."""
    linked = [path for path in sorted(folder.iterdir()) if path.is_symlink() and _SHA256.fullmatch(path.resolve().name)]
    found.faults += [f"{path.name} differs from its SHA-256 on the hub" for path in linked if sha256_of(path) != path.resolve().name]
    if linked:
        found.compared.append(f"{len(linked)} files with their SHA-256 on the hub")


def _look_at_numbers(folder: Path, found: Verification, reporter: Reporter) -> None:
    files = WeightFiles(folder)
    with reporter.track("reading weights", total=len(files.where), unit="tensors") as task:
        for path, held in files.shards():
            with open_shard(path) as shard:
                for name in held:
                    tensor = shard.tensor(name)
                    if tensor.is_floating_point() and tensor.itemsize > 1 and not bool(torch.isfinite(tensor).all()):
                        found.faults.append(f"{name} in {path.name} holds numbers that are not finite")
                    task.advance()
            del shard
    found.compared.append(f"the numbers of {len(files.where)} tensors, which must be finite")
