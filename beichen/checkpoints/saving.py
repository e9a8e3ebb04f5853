"""A decoder -> a folder in published layout: safetensors (sharded with an index above a size), config, side files, digests.

The folder appears whole or not at all. Tensors keep their published names, layouts and, unless ``dtype`` says otherwise, bits.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beichen.checkpoints.digests import DIGESTS, write_digests
from beichen.checkpoints.loading import check_tokenizer_size, stored_copies, widest
from beichen.checkpoints.published_files import CONFIG, GENERATION_CONFIG, INDEXES, SINGLE, SUFFIXES, is_kept
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.checkpoints.safetensors_writing import Planned, planned, write_safetensors
from beichen.errors import ConfigError, StorageError
from beichen.models.naming import NameTable, PublishedView
from beichen.models.registry import load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.util.files import write_folder_atomically
from beichen.util.progress import SILENT, Reporter

SHARD_BYTES = 5 * 10**9


def save_checkpoint(
    folder: Path | str,
    decoder: Decoder,
    *,
    family: str,
    published: Mapping[str, Any] | None = None,
    token_ids: Mapping[str, int | list[int]] | None = None,
    source: Path | str | None = None,
    write_extra: Iterable[Callable[[Path], object]] = (),
    generation: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    replace: bool = False,
    shard_bytes: int = SHARD_BYTES,
    reporter: Reporter = SILENT,
) -> None:
    """Write ``folder``; a checkpoint that stands there is replaced only if asked, once the new one is complete; other entries are kept.

    published: the config the weights came with, kept key by key; default: made from the decoder.
    token_ids: ``{"bos_token_id": 1, ...}`` for config.json. source: the folder they came from: its side files (tokenizer,
    generation config, licence), tensor prefix, and, with ``published``, number formats and tensors without weights are kept.
    write_extra: called with the folder under construction, e.g. ``tokenizer.save``.
    generation: content of generation_config.json. dtype: number format of the files.
    """
    folder = Path(folder)
    standing = [name for name in (CONFIG, *SINGLE, *INDEXES) if (folder / name).exists()]
    if standing and not replace:
        raise StorageError(
            f"{folder}: holds a checkpoint already ({', '.join(standing)})",
            remedy="name another folder, or say that it is to be replaced (replace=True)",
        )
    tables = load_family(family)
    config = decoder.config
    keys = dict(tables.from_decoder_config(config) if published is None else published)
    if published is not None and tables.to_decoder_config(published) != config:
        raise ConfigError(f"the published config handed to save {folder} describes another model than the decoder's own config")
    keys |= token_ids or {}
    own = next(decoder.parameters()).dtype
    files = None if source is None else WeightFiles(Path(source))
    views = tables.names.views(decoder.state_dict(), config, bare=files is not None and tables.names.omits_prefix(files.where))
    plans, changed = plan_tensors(views, dtype), True
    if files is not None and published is not None:
        plans, changed = _as_in_source(plans, files, tables.names, config, None if dtype else own)
    else:
        plans |= plan_constants(tables.names.constant_scalars(config), dtype or own)
    if changed:
        keys = name_dtype(keys if published is not None else {"torch_dtype": None, **keys}, dtype or own)
    with write_folder_atomically(folder, obsolete=_belongs_to_weights) as inside:
        if source is not None:
            copy_side_files(Path(source), inside)
        for write in write_extra:
            write(inside)
        write_json(inside / CONFIG, keys)
        if generation is not None:
            write_json(inside / GENERATION_CONFIG, generation)
        check_tokenizer_size(inside, config.vocab_size)
        known = write_weights(inside, plans, shard_bytes=shard_bytes, reporter=reporter)
        write_digests(inside, known)


def name_dtype(published: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The config with the number format that its weights have, under whichever key it states one."""
    return dict(published) | {key: str(dtype).removeprefix("torch.") for key in ("torch_dtype", "dtype") if key in published}


def copy_side_files(source: Path, target: Path) -> None:
    """Copy what belongs to a model beside its weights, and nothing else that may lie in the folder of a run."""
    for path in sorted(source.iterdir()):
        if path.is_file() and is_kept(path.name):
            shutil.copyfile(path, target / path.name)


def _belongs_to_weights(name: str) -> bool:
    return name.endswith(SUFFIXES) or name in (*INDEXES, DIGESTS)


def _as_in_source(
    plans: Mapping[str, Planned], files: WeightFiles, names: NameTable, config: DecoderConfig, own: torch.dtype | None
) -> tuple[dict[str, Planned], bool]:
    """The plans with what the source's files hold beyond them: number formats that differ from tensor to tensor, a stored copy of a
    tied head, tensors without weights. ``own``: the decoder's format, None if another was asked for.  -> plans, whether formats change
    """
    copies = stored_copies(files.where, names, config)
    formats: dict[str, torch.dtype] = {}
    others: dict[str, Planned] = {}
    for path, held in files.shards():
        with open_shard(path) as shard:
            for name in held:
                if name in plans or name in copies:
                    formats[name] = shard.dtype(name)
                elif names.is_ignorable(name):
                    others[name] = Planned(shard.shape(name), shard.dtype(name), partial(_read, path, name))
        del shard
    changed = widest(formats.values()) != own or any(stored.itemsize == 1 for stored in formats.values())
    kept = {**plans, **{head: plans[embedding] for head, embedding in copies.items()}}
    if not changed:
        kept = {name: dataclasses.replace(plan, dtype=formats.get(name, plan.dtype)) for name, plan in kept.items()}
    return kept | others, changed


def _read(path: Path, name: str) -> Tensor:
    with open_shard(path) as shard:
        return shard.tensor(name)


def plan_tensors(views: Mapping[str, PublishedView], dtype: torch.dtype | None = None) -> dict[str, Planned]:
    """Published tensors to be written from their views."""
    return {name: Planned(view.shape, dtype or view.view.dtype, view.tensor) for name, view in views.items()}


def plan_constants(scalars: Mapping[str, float], dtype: torch.dtype) -> dict[str, Planned]:
    """Scalars to be written in the number format of the weights."""
    return {name: planned(torch.tensor(value).to(dtype)) for name, value in scalars.items()}


def write_weights(
    folder: Path, plans: Mapping[str, Planned], *, stem: str = "model", shard_bytes: int = SHARD_BYTES, reporter: Reporter = SILENT
) -> dict[str, str]:
    """Write ``stem.safetensors``, or shards and their index.  -> SHA-256 by file"""
    shards: list[dict[str, Planned]] = [{}]
    for name, plan in plans.items():
        if shards[-1] and sum(held.size for held in shards[-1].values()) + plan.size > shard_bytes:
            shards.append({})
        shards[-1][name] = plan
    single = len(shards) == 1
    files = [f"{stem}.safetensors"]
    if not single:
        files = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    digests: dict[str, str] = {}
    with reporter.track("saving", total=len(shards), unit="shards") as task:
        for file, shard in zip(files, shards, strict=True):
            digests[file] = write_safetensors(folder / file, shard)
            task.advance()
    if not single:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(plan.size for plan in plans.values())
        write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    return digests


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
