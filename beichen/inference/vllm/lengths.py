"""How many tokens vLLM may be asked for, of each rope rule. Its table ends where the config says; beyond, it answers from what lies there.

In: a decoder's config and the length of ``beichen serve --max-model-len``. Out: what vLLM is told so that it computes every position as we
do. Rule: a length that it would compute otherwise is refused, also where vLLM alone would take it. Found by trying vLLM 0.32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from beichen.errors import SettingsError
from beichen.nn.config import DecoderConfig

ALLOWS_MORE = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"  # of its environment: lengths above those that it expects of a config
ANY_LENGTH = ("default", "linear", "llama3")  # rules that do not change with the length: a longer table is all that they need


@dataclass(frozen=True, kw_only=True)
class LengthWords:
    """``None``: nothing needs to be said."""

    max_model_len: int | None = None
    positions: int | None = None  # that its table needs, in place of the config's max_position_embeddings
    allow_more: bool = False


def words_for_length(config: DecoderConfig, length: int | None, folder: Path) -> LengthWords:
    """What makes vLLM take ``length`` tokens (``None``: as many as it likes) of the model in ``folder``.

    Raises SettingsError for more than it computes as we do.
    """
    rope, trained = config.rope, config.max_position_embeddings
    table = {"linear": trained * rope.factor, "yarn": rope.original_length * rope.factor}.get(rope.rule, trained)
    expected = min(trained, _tokenizer_length(folder) or trained) * (rope.factor if rope.rule in ("linear", "dynamic_ntk") else 1)
    if length is None:
        return LengthWords(max_model_len=int(table) if expected > table else None)
    if length > table and rope.rule not in ANY_LENGTH:
        raise SettingsError(
            f"--max-model-len {length}: vLLM computes this model's rope rule ({rope.rule}) up to {int(table)} tokens",
            remedy=f"{int(table)} at most, or --engine beichen",
        )
    return LengthWords(max_model_len=length, positions=length if length > table else None, allow_more=length > expected)


def _tokenizer_length(folder: Path) -> int | None:
    """What vLLM takes from beside the weights."""
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")).get("model_max_length") if path.exists() else None
    return int(stated) if isinstance(stated, int | float) and stated > 0 else None
