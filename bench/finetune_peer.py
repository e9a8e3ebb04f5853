"""A peer's contender of fine-tuning, run by the peers' own Python: ``python -m bench.finetune_peer job.json``.

In: a job (see ``main``), the checkpoint in published layout, ids and scored positions. It is the peer's own trainer with its own packing,
collator, loss and optimizer; what is added counts tokens, keeps the rows and the loss of the first step, and waits for its turn after each.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DataCollatorWithFlattening,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from bench.turn_taker import TurnTaker

IGNORED = -100


class Counted:
    """Put before a trainer: what its step was made of."""

    def begin_counting(self) -> None:
        self.tokens = self.targets = 0
        self.first: list[dict[str, Any]] | None = []  # the micro-batches of the first step, as the trainer saw them
        self.first_loss = 0.0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        mask = inputs.get("attention_mask")
        self.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        self.targets += int((inputs["labels"][:, 1:] != IGNORED).sum()) if "labels" in inputs else int(inputs["completion_mask"].sum())
        kept = {name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)} if self.first is not None else None
        loss = super().compute_loss(model, inputs, *given, **named)  # type: ignore[misc]  # the trainer's, which comes after
        if kept is not None and self.first is not None:
            self.first.append(kept)
            self.first_loss += float((loss[0] if isinstance(loss, tuple) else loss).detach())
        return loss


class Turns(TrainerCallback):
    """Says what a step was, and waits."""

    def __init__(self, taker: TurnTaker, folder: Path, facts: dict[str, Any]) -> None:
        self.taker, self.folder, self.facts, self.trainer = taker, folder, facts, None

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        trainer: Any = self.trainer
        if trainer.first is not None:
            torch.save({"rows": trainer.first, "loss": trainer.first_loss}, self.folder / "first_step.pt")
            trainer.first = None
        said = {"tokens": trainer.tokens, "targets": trainer.targets, **self.facts}
        trainer.tokens = trainer.targets = 0
        self.taker.done(**said)


class CountedTrainer(Counted, Trainer):
    """transformers' Trainer."""


class CountedSft(Counted, SFTTrainer):
    """trl's trainer of dialogues."""


class CountedDpo(Counted, DPOTrainer):
    """trl's trainer of preferences, which gets ids in place of text."""

    def _prepare_dataset(self, dataset: Dataset, *given: Any) -> Dataset:
        return dataset


def read_dialogues(file: Path) -> Dataset:
    """Ids and labels of each dialogue."""
    held = np.load(file)
    ids, scored, offsets = held["ids"], held["scored"], held["offsets"]
    labels = np.where(scored, ids, IGNORED)
    cuts = offsets[1:-1]
    rows = {"input_ids": [part.tolist() for part in np.split(ids, cuts)], "labels": [part.tolist() for part in np.split(labels, cuts)]}
    return Dataset.from_dict(rows)


def read_pairs(file: Path) -> Dataset:
    """Ids of prompts and of both answers, up to the last one that is scored; documents 2u and 2u + 1 are a pair."""
    held = np.load(file)
    cuts = held["offsets"][1:-1]
    sides = [
        (ids[: int(np.flatnonzero(scored)[0])], ids[int(np.flatnonzero(scored)[0]) : int(np.flatnonzero(scored)[-1]) + 1])
        for ids, scored in zip(np.split(held["ids"], cuts), np.split(held["scored"], cuts), strict=True)
    ]
    rows: list[dict[str, Any]] = []
    for (prompt, chosen), (other, rejected) in zip(sides[0::2], sides[1::2], strict=True):
        if not np.array_equal(prompt, other):
            raise ValueError(f"pair {len(rows)}: the answers have different prompts")
        rows.append({"prompt_ids": prompt.tolist(), "chosen_ids": chosen.tolist(), "rejected_ids": rejected.tolist()})
    return Dataset.from_list(rows)


def arguments(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What all three trainers are given; the optimizer is that of ours."""
    return {
        "output_dir": str(folder / "out"), "use_cpu": True, "bf16": job["autocast"], "max_steps": 10_000,
        "per_device_train_batch_size": job["micro_batch"], "gradient_accumulation_steps": job["accumulation"],
        "learning_rate": job["learning_rate"], "lr_scheduler_type": "constant", "weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95,
        "adam_epsilon": 1e-8, "max_grad_norm": 1.0, "optim": "adamw_torch_fused", "gradient_checkpointing": False,
        "torch_compile": job["compiled"], "logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "seed": 0, "dataloader_num_workers": 0,
    }  # fmt: skip


def make_trainer(job: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """(trainer, what is known before the first step)."""
    checkpoint = Path(job["checkpoint"])
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, job["weights"]), attn_implementation="sdpa")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"), pad_token="<_pad>", eos_token="<_end>")
    given, adapter = arguments(job, folder), None
    if job["lora"]:
        adapter = LoraConfig(
            r=job["lora"]["rank"], lora_alpha=job["lora"]["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )  # fmt: skip
    begin = time.perf_counter()
    if job["trainer"] == "dpo":
        config = DPOConfig(
            **given, beta=0.1, max_length=None, precompute_ref_log_probs=True, precompute_ref_batch_size=job["micro_batch"]
        )  # fmt: skip
        trainer: Any = CountedDpo(
            model=model, args=config, train_dataset=read_pairs(Path(job["data"])), processing_class=tokenizer, peft_config=adapter
        )  # fmt: skip
        held = trainer.train_dataset
        torch.save({name: torch.tensor(held[name]) for name in ("ref_chosen_logps", "ref_rejected_logps")}, folder / "reference.pt")
        scored = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in held)
        return trainer, {"all_targets": scored, "reference_seconds": time.perf_counter() - begin}
    data = read_dialogues(Path(job["data"]))
    if job["trainer"] == "sft":
        config = SFTConfig(**given, max_length=job["row"], packing=job["packed"], packing_strategy="bfd", loss_type="nll")
        trainer = CountedSft(model=model, args=config, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
        rows = trainer.train_dataset["labels"]
    else:
        packed = (
            pack_dataset(data, job["row"], "bfd")
            if job["packed"]
            else data.add_column("seq_lengths", [[len(ids)] for ids in data["input_ids"]])
        )
        rows = packed["labels"]
        if adapter is not None:
            model = get_peft_model(model, adapter)
        trainer = CountedTrainer(
            model=model, args=TrainingArguments(**given), train_dataset=_split(packed), data_collator=_Flattening(return_position_ids=True)
        )  # fmt: skip
    return trainer, {"all_targets": sum(label != IGNORED for labels in rows for label in labels)}


def _split(packed: Dataset) -> Dataset:
    """Rows with their dialogues apart, as transformers' collator wants them."""

    def apart(row: dict[str, Any]) -> dict[str, Any]:
        cuts = np.cumsum(row["seq_lengths"])[:-1]
        return {name: [part.tolist() for part in np.split(np.array(row[name]), cuts)] for name in ("input_ids", "labels")}

    return packed.map(apart, remove_columns=["seq_lengths"])


class _Flattening(DataCollatorWithFlattening):
    """transformers' collator over the dialogues of the rows of a micro-batch."""

    def __call__(self, features: list[dict[str, Any]], **named: Any) -> Any:
        each = [
            {"input_ids": ids, "labels": labels}
            for row in features for ids, labels in zip(row["input_ids"], row["labels"], strict=True)
        ]  # fmt: skip
        return super().__call__(each, **named)


def main() -> None:
    """A job: task and settings as ``finetune_contenders`` writes them."""
    taker = TurnTaker()
    file = Path(sys.argv[1])
    job = json.loads(file.read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    trainer, facts = make_trainer(job, file.parent)
    used = ["transformers", "accelerate"] if job["trainer"] == "plain" else ["trl", "transformers"]
    facts["versions"] = ", ".join(f"{package} {version(package)}" for package in used + ["peft"] * bool(job["lora"]))
    turns = Turns(taker, file.parent, facts)
    turns.trainer = trainer
    trainer.begin_counting()
    trainer.add_callback(turns)
    trainer.train()


if __name__ == "__main__":
    main()
