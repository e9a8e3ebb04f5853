"""From the settings of adapters to a decoder that carries them: base recorded and perhaps quantized, adapters new or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.checkpoints.adapter_folder import is_adapter, read_adapter, save_adapter
from beichen.checkpoints.adapter_loading import put_on
from beichen.checkpoints.fingerprints import BaseRecord, check_base, record_base
from beichen.checkpoints.hubs import find_folder
from beichen.errors import SettingsError
from beichen.models.adapters import AdapterShape, attach
from beichen.models.family import Family
from beichen.models.linear_names import choose
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.nn.quantized import quantize
from beichen.train.adapter_settings import AdapterSettings
from beichen.util.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """What a run needs to store its adapters."""

    shape: AdapterShape
    base: BaseRecord
    dropout: float

    def save(
        self, folder: Path, decoder: Decoder, *, write_extra: Iterable[Callable[[Path], object]], generation: Mapping[str, Any]
    ) -> None:  # fmt: skip
        """The adapters as a folder in PEFT's format."""
        names = load_family(self.base.family).names
        save_adapter(
            folder, decoder, names, self.shape, base=self.base, dropout=self.dropout, write_extra=write_extra, generation=generation
        )  # fmt: skip


def adapt(decoder: Decoder, settings: AdapterSettings, *, start_from: str, family: str, seed: int, reporter: Reporter) -> Adaptation:
    """Freeze a loaded decoder and put adapters on it. Raises SettingsError for a pattern that means no layer."""
    tables, quantized = load_family(family), None if settings.base_format == "full" else settings.base_format
    shape = None if settings.start_from is not None else new_shape(decoder, tables, settings)
    dtype = decoder.dtype
    if quantized is not None:
        quantize(decoder, quantized)
    if shape is not None:
        attach(decoder, tables.names, shape, seed=seed, dropout=settings.dropout)
    else:
        shape = _go_on(decoder, tables, settings, Path(start_from), reporter)
    base = record_base(start_from, family=family, dtype=dtype, quantized=quantized, reporter=reporter)
    return Adaptation(shape=shape, base=base, dropout=settings.dropout)


def new_shape(decoder: Decoder, family: Family, settings: AdapterSettings) -> AdapterShape:
    """The layers that the settings' patterns mean, with their ranks."""
    ranks = dict.fromkeys(choose(settings.patterns, family, decoder), settings.rank)
    for pattern, rank in settings.ranks.items():
        meant = choose([pattern], family, decoder)
        if not ranks.keys() & set(meant):
            raise SettingsError(f"lora.ranks: '{pattern}' means no layer that lora.patterns means", remedy="add it to lora.patterns")
        ranks |= dict.fromkeys((name for name in meant if name in ranks), rank)
    return AdapterShape(alpha=settings.alpha, ranks=ranks, rslora=settings.rslora, dora=settings.dora)


def _go_on(decoder: Decoder, family: Family, settings: AdapterSettings, base: Path, reporter: Reporter) -> AdapterShape:
    assert settings.start_from is not None
    if not is_adapter(settings.start_from):
        raise SettingsError(f"lora.start_from: {settings.start_from} holds no adapter (adapter_config.json)")
    stored = read_adapter(settings.start_from)
    if stored.base is not None:
        check_base(stored.base, find_folder(base), reporter=reporter)
    put_on(decoder, family.names, stored, dropout=settings.dropout)
    return stored.shape
