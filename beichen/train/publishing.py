"""The model of a run as a folder that everything else opens: a checkpoint in published layout, or an adapter beside its base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from beichen.checkpoints.saving import save_checkpoint
from beichen.text.tokenizer import Tokenizer
from beichen.train.preparation import Parts
from beichen.util.progress import Reporter


def save_model(folder: Path, parts: Parts, *extra: Callable[[Path], object], reporter: Reporter) -> None:
    """Write the model as it is now, with its tokenizer. extra: called with the folder under construction."""
    beside, generation = [parts.tokenizer.save, *extra], generation_defaults(parts.tokenizer)
    if parts.adaptation is not None:
        parts.adaptation.save(folder, parts.decoder, write_extra=beside, generation=generation)
        return
    save_checkpoint(
        folder, parts.decoder, family=parts.family, token_ids=token_ids(parts.tokenizer), write_extra=beside, generation=generation,
        replace=True, reporter=reporter,
    )  # fmt: skip


def token_ids(tokenizer: Tokenizer) -> dict[str, int | list[int]]:
    """What config.json says of the control tokens."""
    ids: dict[str, int | list[int]] = {"eos_token_id": tokenizer.end_id, "pad_token_id": tokenizer.pad_id}
    return ids if tokenizer.start_id is None else {"bos_token_id": tokenizer.start_id, **ids}


def generation_defaults(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json of a model that we trained: plain greedy decoding, ended by the end token."""
    return {"do_sample": False, "max_new_tokens": 256, **token_ids(tokenizer)}
