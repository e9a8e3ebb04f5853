"""A checkpoint folder in one layout -> a folder in another: published names, or those of MindSpore, in both directions.

Both layouts are tables of views into our parameters, so one parameter at a time is put together from the source's tensors and cut
into the target's; memory holds no more. Bits stay as they are unless another number format is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from beichen.checkpoints.digests import write_digests
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import compare_files, load_config, stored_copies, widest
from beichen.checkpoints.published_files import CONFIG, INDEXES, SINGLE
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.checkpoints.safetensors_writing import Planned
from beichen.checkpoints.saving import copy_side_files, name_dtype, plan_constants, write_json, write_weights
from beichen.errors import CheckpointError, SettingsError, StorageError, nearest
from beichen.models.family import Family
from beichen.models.naming import NameTable, PublishedView
from beichen.models.registry import load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.util.files import write_folder_atomically
from beichen.util.progress import SILENT, Reporter

PUBLISHED = "published"


class _Reassembly:
    """Our parameters, put together one at a time from the tensors of a source, and cut into those of a target."""

    def __init__(self, files: WeightFiles, source: NameTable, target: NameTable, config: DecoderConfig) -> None:
        with torch.device("meta"):
            self._meta = Decoder(config).state_dict()
        self._files, self._source, self._target, self._config = files, source, target, config
        self._bare = source.omits_prefix(files.where)
        views = source.views(self._meta, config, bare=self._bare)
        wanted = {name: view.shape for name, view in views.items()}
        self.dtypes = compare_files(files, wanted, stored_copies(files.where, source, config), source)
        self._parts: dict[str, list[str]] = {}
        for name, view in views.items():
            self._parts.setdefault(view.ours, []).append(name)
        self._cut: tuple[str, dict[str, PublishedView]] = ("", {})

    def plans(self, dtype: torch.dtype | None) -> dict[str, Planned]:
        """Every tensor of the target, made when its turn comes; parameter by parameter."""
        formats = {ours: dtype or widest(self._format(part) for part in parts) for ours, parts in self._parts.items()}
        return {
            name: Planned(view.shape, formats[view.ours], partial(self._tensor, view.ours, name))
            for name, view in self._target.views(self._meta, self._config).items()
        }

    def _format(self, name: str) -> torch.dtype:
        with open_shard(self._files.where[name]) as shard:
            return shard.dtype(name)

    def _tensor(self, ours: str, name: str) -> Tensor:
        if self._cut[0] != ours:
            self._cut = (ours, self._target.views({ours: self._assembled(ours)}, self._config))
        return self._cut[1][name].tensor()

    def _assembled(self, ours: str) -> Tensor:
        stored = widest(self._format(part) for part in self._parts[ours])
        parameter = torch.empty(self._meta[ours].shape, dtype=stored)
        for name, view in self._source.views({ours: parameter}, self._config, bare=self._bare).items():
            with open_shard(self._files.where[name]) as shard:
                view.fill(shard.tensor(name))
        return parameter


def convert_folder(
    source: Path | str, target: Path | str, *, to: str, layout: str | None = None, dtype: torch.dtype | None = None,
    reporter: Reporter = SILENT,
) -> None:  # fmt: skip
    """Write ``target``, which must be empty or absent, in the layout ``to``.

    layout: that of ``source``; default: told by its file names. Both: ``published`` or a name out of the family's ``layouts``.
    """
    source, target = find_folder(source, reporter=reporter), Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} exists and is not an empty folder", remedy="choose another target; nothing is overwritten")
    config, published, name = load_config(source)
    family = load_family(name)
    plans = _plans(source, config, family, have=layout or layout_of(source, family), to=to, dtype=dtype)
    with write_folder_atomically(target) as inside:
        copy_side_files(source, inside)
        write_json(inside / CONFIG, published if dtype is None else name_dtype(published, dtype))
        write_digests(inside, write_weights(inside, plans, stem=_stem(to) or "model", reporter=reporter))


def layout_of(folder: Path, family: Family) -> str:
    """The layout of a folder's weights, by their file name; an error where it does not tell."""
    standing = {PUBLISHED} if any((folder / name).exists() for name in (*SINGLE, *INDEXES)) else set()
    standing |= {
        name for name in family.layouts for file in (f"{name}.safetensors", f"{name}.safetensors.index.json") if (folder / file).exists()
    }
    if len(standing) == 1:
        return standing.pop()
    raise CheckpointError(
        f"{folder}: {'holds several layouts: ' + ', '.join(sorted(standing)) if standing else 'its file names do not tell its layout'}",
        remedy=f"state it (--from); family '{family.name}' has: {', '.join((PUBLISHED, *family.layouts))}",
    )


def conversions(folder: Path, files: list[str]) -> Iterator[tuple[str, int]]:
    """Convert every file of a folder into every other in memory.  -> ('a -> b', tensors of b that are not equal bit for bit)"""
    config, _, name = load_config(folder)
    family = load_family(name)
    for first in files:
        for second in files:
            if first == second:
                continue
            have, to = (PUBLISHED if file in SINGLE else Path(file).stem for file in (first, second))
            plans = _plans(folder, config, family, have=have, to=to)
            expected = load_file(folder / second)
            made = {key: plan.values() for key, plan in plans.items()}
            yield f"{have} -> {to}", sum(not _same(made.get(key), expected.get(key)) for key in made.keys() | expected.keys())


def _plans(
    folder: Path, config: DecoderConfig, family: Family, *, have: str, to: str, dtype: torch.dtype | None = None
) -> dict[str, Planned]:  # fmt: skip
    """The tensors of ``folder``, laid out as ``have``, to be written as ``to``."""
    source, target = _table(family, have, config), _table(family, to, config)
    reassembly = _Reassembly(WeightFiles(folder, stem=_stem(have)), source, target, config)
    return reassembly.plans(dtype) | plan_constants(target.constant_scalars(config), dtype or widest(reassembly.dtypes))


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _table(family: Family, layout: str, config: DecoderConfig) -> NameTable:
    tables: Mapping[str, NameTable] = {PUBLISHED: family.names, **family.layouts_of(config)}
    if layout not in tables:
        what = "" if config.experts is not None or layout not in family.layouts else " without experts"
        raise SettingsError(
            f"family '{family.name}'{what} has no layout '{layout}'{nearest(layout, tables)}", remedy=f"known: {', '.join(tables)}"
        )
    return tables[layout]


def _stem(layout: str) -> str | None:
    return None if layout == PUBLISHED else layout
