"""What a checkpoint folder is, read from its config and the heads of its files: family, sizes, parameters, number formats.

A config that we cannot build a decoder from is described as far as its keys go, with the reason beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from beichen.checkpoints.digests import DIGESTS
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import load_config
from beichen.checkpoints.reading import WeightFiles, open_shard, read_config, read_json
from beichen.errors import CheckpointError, ConfigError
from beichen.models.presets import count_parameters
from beichen.nn.config import DecoderConfig

USUAL_KEYS = {  # fact -> what publishers call it
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "key_value_heads": ("num_key_value_heads", "multi_query_group_num", "num_kv_heads"),
    "head_width": ("head_dim", "kv_channels"),
    "feed_forward_size": ("intermediate_size", "ffn_hidden_size", "n_inner", "d_ff"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "trained_length": ("max_position_embeddings", "seq_length", "n_positions", "max_seq_len", "model_max_length"),
    "rope_rule": ("rope_scaling", "rope_parameters"),
    "tied_head": ("tie_word_embeddings",),
}


def describe(place: Path | str) -> dict[str, Any]:
    """Facts by name, in the order in which a person wants them; of a folder, a config file, or a model on a hub."""
    path = find_folder(place, weights=False)
    published = read_json(path) if path.is_file() else read_config(path)
    files = _files(path.parent if path.is_file() else path)
    try:
        config, _, family = load_config(path)
    except ConfigError as fault:
        remedy = f" ({fault.remedy})" if fault.remedy else ""
        unsupported = {"family": None, "architecture": _architecture(published), "not_supported": f"{fault.args[0]}{remedy}"}
        return unsupported | {"parameters": files.get("stored_numbers")} | _usual_facts(published) | files
    return {"family": family, "architecture": _architecture(published)} | _facts(config) | files


def _facts(config: DecoderConfig) -> dict[str, Any]:
    counts = count_parameters(config)
    return {
        "parameters": counts.total,
        "active_parameters": counts.active,
        "non_embedding_parameters": counts.non_embedding,
        "active_non_embedding_parameters": counts.active_non_embedding,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "attention_heads": config.num_attention_heads,
        "key_value_heads": config.num_key_value_heads,
        "head_width": config.head_dim,
        "feed_forward_size": config.intermediate_size,
        "vocabulary": config.vocab_size,
        "trained_length": config.max_position_embeddings,
        "rope_rule": config.rope.rule,
        "tied_head": config.tie_word_embeddings,
    }


def _usual_facts(published: Mapping[str, Any]) -> dict[str, Any]:
    """What the keys say that most publishers share; of a model with several parts, its text part."""
    text = published.get("text_config")
    keys = text if isinstance(text, Mapping) else published
    facts = {fact: next((keys[name] for name in names if name in keys), None) for fact, names in USUAL_KEYS.items()}
    rule = facts["rope_rule"]
    if isinstance(rule, Mapping):
        facts["rope_rule"] = rule.get("rope_type", rule.get("type"))
    return {fact: value for fact, value in facts.items() if value is not None}


def _architecture(published: Mapping[str, Any]) -> str | None:
    names = published.get("architectures")
    return names[0] if isinstance(names, list) and names else published.get("model_type")


def _files(folder: Path) -> dict[str, Any]:
    """The weights files; a config that stands alone has none."""
    numbers = 0
    dtypes: set[str] = set()
    try:
        files = WeightFiles(folder)
        for path, held in files.shards():
            with open_shard(path) as shard:
                dtypes |= {str(shard.dtype(name)).removeprefix("torch.") for name in held}
                numbers += sum(prod(shard.shape(name)) for name in held)
            del shard
    except CheckpointError as fault:
        return {"dtype": None, "weights": str(fault.args[0])}
    paths = [path for path, _ in files.shards()]
    return {
        "dtype": sorted(dtypes),
        "weights": [path.name for path in paths],
        "weights_bytes": sum(path.stat().st_size for path in paths),
        "stored_numbers": numbers,
        "digests_noted": (folder / DIGESTS).exists(),
    }
