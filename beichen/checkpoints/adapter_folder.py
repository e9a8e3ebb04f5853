"""Adapter folders in PEFT's format: adapter_config.json and adapter_model.safetensors, and beside them which base they belong to.

Ours are read by ``peft`` and vLLM, those of ``peft`` by us. ``adapter_base.json`` is our own file: the base's folder, the SHA-256 of its
weights, and how they were held in training, so that no other base is taken for it. What PEFT can say and we cannot do is an error.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from beichen.checkpoints.digests import write_digests
from beichen.checkpoints.fingerprints import BaseRecord
from beichen.checkpoints.published_files import GENERATION_CONFIG
from beichen.checkpoints.reading import open_shard, read_json
from beichen.checkpoints.safetensors_writing import planned, write_safetensors
from beichen.checkpoints.saving import write_json
from beichen.errors import CheckpointError, ConfigError
from beichen.models.adapters import AdapterShape, Matrices, published
from beichen.models.linear_names import places, shortest_ends
from beichen.models.naming import NameTable
from beichen.nn.decoder import Decoder
from beichen.util.files import write_folder_atomically

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "adapter_base.json"
PREFIX = "base_model.model."
VERSION = 1

_SAYS_NOTHING = {  # keys that describe how an adapter was made or is sharded, not what it computes
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "loftq_config", "lora_ga_config", "megatron_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
}  # fmt: skip
_UNDERSTOOD = {
    "alpha_pattern", "fan_in_fan_out", "init_lora_weights", "lora_alpha", "lora_dropout", "r", "rank_pattern", "use_dora", "use_rslora",
}  # fmt: skip
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initializations that leave another base than the published one
_TENSOR = re.compile(rf"{re.escape(PREFIX)}(?P<layer>.+)\.(?P<what>lora_A\.weight|lora_B\.weight|lora_magnitude_vector(\.weight)?)")


@dataclass(frozen=True, kw_only=True)
class StoredAdapter:
    """What a folder holds, not yet on a decoder."""

    folder: Path
    shape: AdapterShape
    matrices: Mapping[str, Matrices]
    base: BaseRecord | None  # of adapters that we made
    base_folder: str | None  # as the folder states it


def is_adapter(folder: Path | str) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(folder) / CONFIG).is_file()


def read_adapter(folder: Path | str) -> StoredAdapter:
    """Everything in an adapter folder. Raises CheckpointError for what it holds beyond LoRA and DoRA on linear layers."""
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    _refuse_what_is_not_understood(config, folder / CONFIG)
    found: dict[str, dict[str, torch.Tensor]] = {}
    with open_shard(folder / WEIGHTS) as shard:
        for name in shard.names():
            match = _TENSOR.fullmatch(name)
            if match is None:
                raise CheckpointError(
                    f"{folder / WEIGHTS}: {name} is no matrix of LoRA or DoRA", remedy="only adapters of linear layers are read"
                )
            found.setdefault(match["layer"], {})[match["what"].removesuffix(".weight")] = shard.tensor(name)
    needed = {"lora_A", "lora_B"} | ({"lora_magnitude_vector"} if config.get("use_dora") else set())
    for layer, tensors in found.items():
        if tensors.keys() != needed:
            raise CheckpointError(f"{folder / WEIGHTS}: {layer} has {', '.join(sorted(tensors))}; expected {', '.join(sorted(needed))}")
    ranks = {layer: _of_pattern(config.get("rank_pattern"), layer, config["r"]) for layer in found}
    for layer, rank in ranks.items():
        if len(found[layer]["lora_A"]) != rank:
            raise CheckpointError(f"{folder}: {layer} has rank {len(found[layer]['lora_A'])}, {CONFIG} says {rank}")
    alphas = {layer: _of_pattern(config.get("alpha_pattern"), layer, config["lora_alpha"]) for layer in found}
    shape = AdapterShape(
        alpha=config["lora_alpha"], ranks=ranks, rslora=bool(config.get("use_rslora")), dora=bool(config.get("use_dora")),
        alphas={layer: alpha for layer, alpha in alphas.items() if alpha != config["lora_alpha"]},
    )  # fmt: skip
    matrices = {layer: Matrices(held["lora_A"], held["lora_B"], held.get("lora_magnitude_vector")) for layer, held in found.items()}
    base = None
    if (folder / BASE).exists():
        table = read_json(folder / BASE)
        if table.pop("version", None) != VERSION:
            raise CheckpointError(
                f"{folder / BASE}: not a record of version {VERSION}", remedy="it was written by another version of Beichen"
            )
        base = BaseRecord(**table)
    return StoredAdapter(
        folder=folder, shape=shape, matrices=matrices, base=base,
        base_folder=base.folder if base is not None else config.get("base_model_name_or_path"),
    )  # fmt: skip


def save_adapter(
    folder: Path | str, decoder: Decoder, names: NameTable, shape: AdapterShape, *, base: BaseRecord, dropout: float = 0.0,
    write_extra: Iterable[Callable[[Path], object]] = (), generation: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write the adapters of a decoder, in the number format in which they computed; other files of ``folder`` are kept.

    write_extra, generation: as for ``save_checkpoint``.
    """
    config = adapter_config(decoder, names, shape, base_folder=base.folder, dropout=dropout)
    with write_folder_atomically(Path(folder)) as inside:
        for write in write_extra:
            write(inside)
        write_json(inside / BASE, {"version": VERSION, **dataclasses.asdict(base)})
        if generation is not None:
            write_json(inside / GENERATION_CONFIG, generation)
        write_matrices(inside, config, published(decoder, names))


def write_matrices(folder: Path, config: Mapping[str, Any], matrices: Mapping[str, Matrices]) -> None:
    """The two files that PEFT reads, and the digest of the weights."""
    tensors: dict[str, torch.Tensor] = {}
    for layer, held in matrices.items():
        tensors |= {f"{PREFIX}{layer}.lora_A.weight": held.a, f"{PREFIX}{layer}.lora_B.weight": held.b}
        if held.magnitudes is not None:
            tensors[f"{PREFIX}{layer}.lora_magnitude_vector"] = held.magnitudes
    write_json(folder / CONFIG, config)
    digest = write_safetensors(folder / WEIGHTS, {name: planned(tensor.contiguous()) for name, tensor in tensors.items()})
    write_digests(folder, {WEIGHTS: digest})


def adapter_config(
    decoder: Decoder, names: NameTable, shape: AdapterShape, *, base_folder: str, dropout: float = 0.0
) -> dict[str, Any]:  # fmt: skip
    """adapter_config.json as PEFT writes it; of the decoder its layers alone are asked for, which need hold nothing."""
    linear = places(names, decoder)
    meta = {name: tensor for name, tensor in decoder.state_dict().items() if name.endswith(".weight") and ".adapter." not in name}
    known = {name.removesuffix(".weight") for name in names.views(meta, decoder.config)} | linear.keys()
    rank = Counter(shape.ranks.values()).most_common(1)[0][0]

    def patterns(values: Mapping[str, float], usual: float) -> dict[str, float]:
        """The values that are not the usual one, by ends of names."""
        alike: dict[float, list[str]] = {}
        for name, value in values.items():
            alike.setdefault(value, []).append(name)
        return {end: value for value, chosen in alike.items() if value != usual for end in shortest_ends(chosen, known)}

    alphas = {name: shape.alphas.get(name, shape.alpha) for name in shape.ranks}
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_folder.removeprefix("hf:"), "inference_mode": True,
        "r": rank, "lora_alpha": shape.alpha, "lora_dropout": dropout, "target_modules": shortest_ends(shape.ranks, known),
        "rank_pattern": patterns(shape.ranks, rank), "alpha_pattern": patterns(alphas, shape.alpha),
        "use_rslora": shape.rslora, "use_dora": shape.dora, "fan_in_fan_out": any(linear[name].transposed for name in shape.ranks),
        "bias": "none", "modules_to_save": None, "init_lora_weights": True,
    }  # fmt: skip


def _refuse_what_is_not_understood(config: Mapping[str, Any], path: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{path}: peft_type={config.get('peft_type')!r}; only LORA is read")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), (int, float)) or config[key] <= 0:
            raise CheckpointError(f"{path}: {key}={config.get(key)!r}: expected a number above 0")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.startswith(_CHANGES_THE_BASE):
        raise ConfigError(
            f"{path}: init_lora_weights={start!r}: such an adapter was trained on a changed base",
            remedy="let peft convert it: save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    for key, value in config.items():
        if key not in _SAYS_NOTHING | _UNDERSTOOD and value not in (None, False, "none") and value != {} and value != []:
            raise ConfigError(f"{path}: {key}={value!r} is not understood", remedy="only LoRA, rsLoRA and DoRA on linear layers are read")


def _of_pattern(patterns: Mapping[str, Any] | None, layer: str, usual: Any) -> Any:
    """As PEFT looks a layer up in rank_pattern and alpha_pattern: the first end of its name, as a regular expression."""
    return next((value for end, value in (patterns or {}).items() if re.match(rf"(.*\.)?({end})$", layer)), usual)
