"""A checkpoint folder for a tokenizer with more tokens: the embedding, and the head where it is another matrix, get rows for them.

Comes in: a folder in published layout and an extension of its tokenizer. Goes out: a folder of the same layout, every other tensor bit
for bit. A new token's row is the mean of the rows of the pieces that spelled it; rows for nobody (padding to a multiple) are the mean of
all rows that have a token, so that none of them is ever the likeliest. Old ids keep their rows, so their logits do not change. Tensor by
tensor: memory holds one matrix twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beichen.checkpoints.digests import write_digests
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import check_tokenizer_size, compare_files, load_config, stored_copies
from beichen.checkpoints.published_files import CONFIG
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.checkpoints.safetensors_writing import Planned
from beichen.checkpoints.saving import copy_side_files, write_json, write_weights
from beichen.errors import SettingsError, StorageError
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.text.extension import Extension
from beichen.text.special_ids import MAX_UNUSED
from beichen.util.files import write_folder_atomically
from beichen.util.progress import SILENT, Reporter

_SIZE_KEYS = ("vocab_size", "padded_vocab_size")


def resize_checkpoint(
    source: Path | str, target: Path | str, extension: Extension, *, old_ids: int, multiple: int = 1, reporter: Reporter = SILENT
) -> int:
    """Write ``target``, which must be empty or absent, with the extended tokenizer.  -> rows of the embedding

    old_ids: how many ids the tokenizer had; multiple: rows are added up to a multiple of this, and never taken away.
    """
    source, target = find_folder(source, reporter=reporter), Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} exists and is not an empty folder", remedy="choose another target; nothing is overwritten")
    config, published, name = load_config(source)
    names = load_family(name).names
    rows = _rows(config.vocab_size, extension.tokenizer.vocab_size, multiple)
    files = WeightFiles(source)
    everything = dict(files.where)
    with torch.device("meta"):
        views = names.views(Decoder(config).state_dict(), config, bare=names.omits_prefix(files.where))
    compare_files(files, {tensor: view.shape for tensor, view in views.items()}, stored_copies(files.where, names, config), names)
    by_token = {names.head, names.embedding, names.embedding.removeprefix(names.optional_prefix)}
    plans = {}
    for path, held in _by_file(everything).items():
        with open_shard(path) as shard:
            for tensor in held:
                read = partial(_read, path, tensor)
                plans[tensor] = Planned(shard.shape(tensor), shard.dtype(tensor), read)
                if tensor in by_token:
                    values = partial(_with_rows, read, rows, min(old_ids, config.vocab_size), extension.spelled)
                    plans[tensor] = Planned((rows, *shard.shape(tensor)[1:]), shard.dtype(tensor), values)
        del shard
    with write_folder_atomically(target) as inside:
        copy_side_files(source, inside)
        extension.tokenizer.save(inside)
        write_json(inside / CONFIG, _with_size(published, rows))
        check_tokenizer_size(inside, rows)
        write_digests(inside, write_weights(inside, plans, reporter=reporter))
    return rows


def _rows(have: int, ids: int, multiple: int) -> int:
    if multiple < 1:
        raise SettingsError(f"multiple={multiple}: at least 1 is needed")
    rows = max(have, -(-ids // multiple) * multiple)
    if rows > have and rows - ids > MAX_UNUSED * rows:
        raise SettingsError(
            f"multiple={multiple} gives {rows} rows for {ids} ids: more than {MAX_UNUSED:.0%} of them would never be used",
            remedy="choose a smaller multiple, such as 64",
        )
    return rows


def _by_file(where: Mapping[str, Path]) -> dict[Path, list[str]]:
    found: dict[Path, list[str]] = {}
    for name, path in where.items():
        found.setdefault(path, []).append(name)
    return found


def _read(path: Path, name: str) -> Tensor:
    with open_shard(path) as shard:
        return shard.tensor(name)


def _with_rows(read: Any, rows: int, old_ids: int, spelled: Mapping[int, Sequence[int]]) -> Tensor:
    old = read()
    new = torch.empty((rows, *old.shape[1:]), dtype=old.dtype)
    new[: len(old)] = old
    new[len(old) :] = old[:old_ids].mean(0, dtype=torch.float32)
    for token, parts in spelled.items():
        new[token] = old[list(parts)].mean(0, dtype=torch.float32)
    return new


def _with_size(published: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {key: rows if key in _SIZE_KEYS else value for key, value in published.items()}
