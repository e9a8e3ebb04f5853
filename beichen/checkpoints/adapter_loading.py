"""A folder's adapter meets its base: loaded with it and put on it, or made ready beside a base that is loaded already.

Rule: no other base than the one trained on, no adapter that does not fit; a base that was quantized in training is so again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from beichen.checkpoints.adapter_folder import BASE, StoredAdapter, is_adapter, read_adapter
from beichen.checkpoints.fingerprints import check_base
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.hubs.folders import hub_name
from beichen.checkpoints.loading import Checkpoint, load_checkpoint
from beichen.errors import CheckpointError, SettingsError
from beichen.models.adapters import attach, fill, made_apart
from beichen.models.linear_names import linear_layers, places
from beichen.models.naming import NameTable
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.nn.quantized import Kind, kind_of
from beichen.nn.spans import Updates
from beichen.util.progress import SILENT, Reporter


class Adapted(NamedTuple):
    """The base's folder, the base as loaded with the adapter on it, and what the adapter's folder held."""

    base: Path
    checkpoint: Checkpoint
    stored: StoredAdapter


def load_adapted(
    folder: Path | str, *, base: Path | str | None = None, device: torch.device | str = "cpu", dtype: torch.dtype | None = None,
    compatibility: Iterable[str] = (), quantize: Kind | None = None, thorough: bool = False, reporter: Reporter = SILENT,
) -> Adapted:  # fmt: skip
    """Load an adapter with its base: the one it names, or ``base``, which must hold the same weights. thorough: as for ``check_base``.

    quantize: how the base's matrices are held, of an adapter that does not say how they were when it was trained.
    """
    stored = read_adapter(folder)
    trained_on = None if stored.base is None else stored.base.quantized
    if None not in (quantize, trained_on) and quantize != trained_on:
        raise SettingsError(
            f"quantize={quantize}: the adapter in {folder} was trained on its base in {trained_on}",
            remedy=f"{trained_on}, or nothing, which is that",
        )
    place = find_base(stored, base, reporter=reporter)
    if stored.base is not None:
        check_base(stored.base, place, thorough=thorough, reporter=reporter)
    checkpoint = load_checkpoint(
        place, device=device, dtype=dtype, compatibility=compatibility, quantize=quantize or trained_on, reporter=reporter
    )
    put_on(checkpoint.decoder, load_family(checkpoint.family).names, stored)
    return Adapted(place, checkpoint, stored)


def load_beside(folder: Path | str, checkpoint: Checkpoint, base: Path, *, reporter: Reporter = SILENT) -> Updates:
    """An adapter for a base that is loaded from ``base`` already, may serve others beside it, and stays as it is.

    Raises CheckpointError for another base than the one trained on, and for what is no adapter.
    """
    check_is_adapter(folder)
    stored = read_adapter(folder)
    if stored.base is not None:
        check_base(stored.base, base, reporter=reporter)
        held = kind_of(checkpoint.decoder)
        if stored.base.quantized != held:
            then, now = (one or "full precision" for one in (stored.base.quantized, held))
            reporter.warn(f"{folder}: was trained on its base in {then}, which is held in {now} here: answers may differ a little")
    names = load_family(checkpoint.family).names
    check_fit(checkpoint.decoder, names, stored)
    return made_apart(checkpoint.decoder, names, stored.shape, stored.matrices)


def check_is_adapter(folder: Path | str) -> None:
    """Raises CheckpointError for a folder without an adapter, and for what is no folder."""
    if not Path(folder).is_dir():
        raise CheckpointError(f"{folder}: no such folder", remedy="name the folder of an adapter")
    if not is_adapter(folder):
        raise CheckpointError(
            f"{folder}: holds no adapter (adapter_config.json)", remedy="name a folder that training with LoRA wrote, by us or by PEFT"
        )


def put_on(decoder: Decoder, names: NameTable, stored: StoredAdapter, *, dropout: float = 0.0) -> None:
    """The decoder with the adapter; it is frozen but for that. Raises CheckpointError where it does not fit."""
    check_fit(decoder, names, stored)
    attach(decoder, names, stored.shape, seed=0, dropout=dropout)
    fill(decoder, names, stored.matrices)


def check_fit(decoder: Decoder, names: NameTable, stored: StoredAdapter) -> None:
    """Raises CheckpointError where an adapter names a layer that the decoder lacks, or has in another size."""
    known, layers = places(names, decoder), linear_layers(decoder)
    for layer, held in stored.matrices.items():
        if layer not in known:
            raise CheckpointError(
                f"{stored.folder}: adapts {layer}, which is no linear layer of this model",
                remedy="the adapter belongs to another model; name the right base (--base)",
            )
        rows, columns = len(known[layer].rows), layers[known[layer].layer].shape[-1]
        if held.b.shape[0] != rows or held.a.shape[1] != columns:
            raise CheckpointError(
                f"{stored.folder}: {layer} is adapted as [{held.b.shape[0]}, {held.a.shape[1]}], the model's is [{rows}, {columns}]",
                remedy="the adapter belongs to a model of another size; name the right base (--base)",
            )


def find_base(stored: StoredAdapter, base: Path | str | None, *, reporter: Reporter = SILENT) -> Path:
    """The folder of the base that is given, or that the adapter names."""
    named = base if base is not None else stored.base_folder
    if named is None or (base is None and hub_name(named) is None and not Path(named).is_dir()):
        where = "names no base" if named is None else f"was trained on {named}, which is no folder here"
        raise CheckpointError(
            f"{stored.folder}: {where}" + (f" ({BASE})" if stored.base is not None else ""),
            remedy="name the base's folder, or its name on a hub (hf:org/name): --base, base=",
        )
    return find_folder(named, reporter=reporter)
