"""The same adapter for the base's export in Llama layout (``llama_export``): rows of the same updates under Llama's names.

What one family publishes as one layer (keys with values) is two in Llama; both get its A, and each the rows of its B. Nothing is computed,
so the adapted export is to the adapted model what the export is to the model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from beichen.checkpoints.adapter_folder import StoredAdapter, adapter_config, write_matrices
from beichen.checkpoints.adapter_loading import check_fit
from beichen.checkpoints.llama_export import llama_config
from beichen.errors import CheckpointError
from beichen.models.adapters import AdapterShape, Matrices
from beichen.models.linear_names import Place, places
from beichen.models.naming import NameTable
from beichen.models.registry import load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.util.files import write_folder_atomically


def export_adapter(stored: StoredAdapter, config: DecoderConfig, names: NameTable, target: Path, *, base: Path) -> None:
    """Write an adapter of a base of this config, under these names, to ``target`` for ``base``, that base in Llama layout.

    Raises ConfigError for a base that Llama layout cannot say, CheckpointError for an adapter that does not fit it.
    """
    with torch.device("meta"):
        decoder, llama = Decoder(config), Decoder(llama_config(config))
    check_fit(decoder, names, stored)
    llama_names, given = load_family("llama").names, places(names, decoder)
    sources = {name: _source(place, stored, given) for name, place in places(llama_names, llama).items()}
    found = {name: source for name, source in sources.items() if source is not None}
    lost = stored.matrices.keys() - {layer for layer, _ in found.values()}
    if lost:
        raise CheckpointError(f"{stored.folder}: {sorted(lost)[0]} has no place in Llama layout")
    shape = AdapterShape(
        alpha=stored.shape.alpha, ranks={name: stored.shape.ranks[layer] for name, (layer, _) in found.items()},
        alphas={name: stored.shape.alphas[layer] for name, (layer, _) in found.items() if layer in stored.shape.alphas},
        rslora=stored.shape.rslora, dora=stored.shape.dora,
    )  # fmt: skip
    with write_folder_atomically(target) as inside:
        settings = adapter_config(llama, llama_names, shape, base_folder=str(base))
        write_matrices(inside, settings, {name: _rows(stored.matrices[layer], rows) for name, (layer, rows) in found.items()})


def _source(place: Place, stored: StoredAdapter, given: dict[str, Place]) -> tuple[str, torch.Tensor] | None:
    """The adapted layer that holds all rows of a layer of Llama's, and which of its rows they are."""
    for layer in stored.matrices:
        if given[layer].layer == place.layer and set(place.rows.tolist()) <= set(given[layer].rows.tolist()):
            where = {row: number for number, row in enumerate(given[layer].rows.tolist())}
            return layer, torch.tensor([where[row] for row in place.rows.tolist()])
    return None


def _rows(held: Matrices, rows: torch.Tensor) -> Matrices:
    return replace(held, b=held.b[rows], magnitudes=None if held.magnitudes is None else held.magnitudes[rows])
