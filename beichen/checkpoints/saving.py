"""A decoder -> a folder in published layout: safetensors (sharded with an index above a size), config, side files, digests.

The folder appears whole or not at all. Tensors keep their published names, layouts and, unless ``dtype`` says otherwise, bits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from beichen.checkpoints.digests import DIGESTS, write_digests
from beichen.checkpoints.loading import check_tokenizer_size
from beichen.checkpoints.reading import CONFIG, INDEXES, SUFFIXES, WeightFiles
from beichen.checkpoints.safetensors_writing import Planned, write_safetensors
from beichen.errors import ConfigError
from beichen.models.naming import PublishedView
from beichen.models.registry import load_family
from beichen.nn.decoder import Decoder
from beichen.util.files import write_folder_atomically
from beichen.util.progress import SILENT, Reporter

GENERATION_CONFIG = "generation_config.json"
SHARD_BYTES = 5 * 10**9
SIDE_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.tiktoken", "chat_template*",
    GENERATION_CONFIG, "licen[cs]e*", "notice*", "readme*", "configuration_*.py", "modeling_*.py", "tokenization_*.py",
)  # fmt: skip

_CONFIG_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


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
    shard_bytes: int = SHARD_BYTES,
    reporter: Reporter = SILENT,
) -> None:
    """Write ``folder``; a checkpoint that stands there is replaced only once the new one is complete, other entries are kept.

    published: the config the weights came with, kept key by key; default: made from the decoder.
    token_ids: ``{"bos_token_id": 1, ...}`` for config.json. source: a folder whose side files (tokenizer, generation config,
    licence) and tensor prefix are kept. write_extra: called with the folder under construction, e.g. ``tokenizer.save``.
    generation: content of generation_config.json. dtype: number format of the files.
    """
    folder = Path(folder)
    tables = load_family(family)
    config = decoder.config
    keys = dict(tables.from_decoder_config(config) if published is None else published)
    if published is not None and tables.to_decoder_config(published) != config:
        raise ConfigError(f"the published config handed to save {folder} describes another model than the decoder's own config")
    keys |= token_ids or {}
    stored = dtype or next(decoder.parameters()).dtype
    for key in [key for key in ("torch_dtype", "dtype") if key in keys] or (["torch_dtype"] if published is None else []):
        keys[key] = _CONFIG_DTYPES.get(stored, str(stored).removeprefix("torch."))
    bare = source is not None and tables.names.omits_prefix(WeightFiles(Path(source)).where)
    views = tables.names.views(decoder.state_dict(), config, bare=bare)
    with write_folder_atomically(folder, obsolete=_belongs_to_weights) as inside:
        if source is not None:
            copy_side_files(Path(source), inside)
        for write in write_extra:
            write(inside)
        _write_json(inside / CONFIG, keys)
        if generation is not None:
            _write_json(inside / GENERATION_CONFIG, generation)
        check_tokenizer_size(inside, config.vocab_size)
        known = _write_weights(inside, views, dtype, shard_bytes, reporter)
        write_digests(inside, known)


def copy_side_files(source: Path, target: Path) -> None:
    """Copy what belongs to a model beside its weights, and nothing else that may lie in the folder of a run."""
    for path in sorted(source.iterdir()):
        if path.is_file() and any(fnmatch(path.name.lower(), pattern) for pattern in SIDE_FILES):
            shutil.copyfile(path, target / path.name)


def _belongs_to_weights(name: str) -> bool:
    return name.endswith(SUFFIXES) or name in (*INDEXES, DIGESTS)


def _write_weights(
    folder: Path, views: Mapping[str, PublishedView], dtype: torch.dtype | None, shard_bytes: int, reporter: Reporter
) -> dict[str, str]:
    plans = {name: Planned(view.shape, dtype or view.view.dtype, view.tensor) for name, view in views.items()}
    shards: list[dict[str, Planned]] = [{}]
    for name, plan in plans.items():
        if shards[-1] and sum(held.size for held in shards[-1].values()) + plan.size > shard_bytes:
            shards.append({})
        shards[-1][name] = plan
    single = len(shards) == 1
    files = ["model.safetensors"] if single else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    digests: dict[str, str] = {}
    with reporter.track("saving", total=len(shards), unit="shards") as task:
        for file, shard in zip(files, shards, strict=True):
            digests[file] = write_safetensors(folder / file, shard)
            task.advance()
    if not single:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(plan.size for plan in plans.values())
        _write_json(folder / INDEXES[0], {"metadata": {"total_size": total}, "weight_map": weight_map})
    return digests


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
