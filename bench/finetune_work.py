"""What the contenders of fine-tuning share: one checkpoint in Llama's published layout, one tokenizer, and the same dialogues and pairs.

In: the samples beside the repository. Out: a folder with the checkpoint (float32, random; its head is wide, so that losses depend on what
is seen), and for the peers the ids that our own reader makes of the same files: what is compared is training, not rendering.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from beichen.checkpoints.saving import save_checkpoint
from beichen.data.account import Account, BadInput
from beichen.data.dialogue_files import read_dialogues, read_preferences
from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.dialogue_tokens import DialogueTokens, collect_dialogues, rendered_for_training
from beichen.data.preference_tokens import PreferenceTokens, collect_preferences
from beichen.errors import DataError
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.messages import RatedDialogue
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.train.publishing import token_ids
from beichen.util.progress import SILENT
from bench.records import FOLDER
from bench.workload import ours, reference_config

SHARED = FOLDER.parents[1] / "shared"
SAMPLES, PAIRS = SHARED / "data/sft/telechat2", SHARED / "data/sft/llamafactory/dpo_zh_demo.json"
WORK = FOLDER / "peers" / "fine-tuning"
ROW, ROWS = 2048, 2  # positions of a row, rows of an optimizer step
HEAD_DEVIATION = 0.1
SETTINGS = DialogueSettings(too_long="drop")  # nothing is cut, so that all learn from the same targets


@dataclass(frozen=True)
class Work:
    """The folder's parts."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return read_tokenizer(self.folder / "tokenizer")

    @cached_property
    def dialogues(self) -> DialogueTokens:
        """All dialogues that fit into a row."""
        rendered = rendered_for_training(read_dialogues(sample_files(), settings=SETTINGS), self.tokenizer, SETTINGS)
        return collect_dialogues(rendered, sequence_length=ROW, pad_id=self.tokenizer.pad_id, too_long=SETTINGS.too_long)

    @cached_property
    def pairs(self) -> PreferenceTokens:
        """All pairs that fit into a row."""
        return collect_preferences(
            read_preferences([PAIRS], settings=SETTINGS), self.tokenizer, paired=True, sequence_length=ROW, settings=SETTINGS,
            held_out_fraction=0.0, seed=0, bad=BadInput("raise", Account(item="preferences", unit="tokens"), SILENT),
        )  # fmt: skip


def sample_files() -> list[Path]:
    """TeleChat2's published samples of dialogues."""
    files = sorted(SAMPLES.glob("dummy_sft_*.jsonl"))
    if not files or not PAIRS.exists():
        raise DataError(f"{SAMPLES}: the samples that fine-tuning is measured on are not beside this clone")
    return files


def prepare(folder: Path = WORK) -> Work:
    """The work, made where it is not there yet (a minute: the tokenizer is learnt)."""
    files, work = sample_files(), Work(folder)
    config = reference_config()
    if not (folder / "tokenizer").exists():
        train_tokenizer(_texts(files), vocab_size=config.vocab_size, pattern="han", template="telechat2").save(folder / "tokenizer")
    if not work.checkpoint.exists():
        decoder = ours(replace(config, max_position_embeddings=ROW + 1), torch.float32)
        with torch.no_grad():
            decoder.head_weight.mul_(HEAD_DEVIATION / config.initializer_range)
        save_checkpoint(
            work.checkpoint, decoder, family="llama", token_ids=token_ids(work.tokenizer), write_extra=[work.tokenizer.save]
        )  # fmt: skip
    dialogues, pairs = work.dialogues, work.pairs
    np.savez(folder / "dialogues.npz", ids=dialogues.ids, scored=dialogues.scored, offsets=dialogues.offsets)
    np.savez(folder / "pairs.npz", ids=pairs.ids, scored=pairs.scored, offsets=pairs.offsets)
    return work


def _texts(files: list[Path]) -> Iterator[str]:
    for dialogue in read_dialogues(files):
        yield from (message.content for message in dialogue.messages)
    for pair in read_preferences([PAIRS]):
        if not isinstance(pair, RatedDialogue):
            yield from (message.content for message in (*pair.prompt, *pair.chosen, *pair.rejected))
