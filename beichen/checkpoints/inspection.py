"""What a checkpoint folder is, read from its config and the heads of its files: family, sizes, parameters, number formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beichen.checkpoints.digests import DIGESTS
from beichen.checkpoints.loading import load_config
from beichen.checkpoints.reading import WeightFiles, open_shard
from beichen.errors import CheckpointError
from beichen.models.presets import count_parameters


def describe(path: Path | str) -> dict[str, Any]:
    """Facts by name, in the order in which a person wants them."""
    path = Path(path)
    config, published, family = load_config(path)
    counts = count_parameters(config)
    facts: dict[str, Any] = {
        "family": family,
        "architecture": _architecture(published),
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
    return facts | _files(path.parent if path.is_file() else path)


def _architecture(published: Mapping[str, Any]) -> str | None:
    names = published.get("architectures")
    return names[0] if isinstance(names, list) and names else published.get("model_type")


def _files(folder: Path) -> dict[str, Any]:
    """The weights files; a config that stands alone has none."""
    try:
        files = WeightFiles(folder)
        dtypes: set[str] = set()
        for path, held in files.shards():
            with open_shard(path) as shard:
                dtypes |= {str(shard.dtype(name)).removeprefix("torch.") for name in held}
    except CheckpointError as fault:
        return {"dtype": None, "weights": str(fault.args[0])}
    paths = [path for path, _ in files.shards()]
    return {
        "dtype": sorted(dtypes),
        "weights": [path.name for path in paths],
        "weights_bytes": sum(path.stat().st_size for path in paths),
        "digests_noted": (folder / DIGESTS).exists(),
    }
