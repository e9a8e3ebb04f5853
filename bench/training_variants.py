"""Small runs of every kind, made for ``kill_training``: what they read, and their recipes by name."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.train.run import train

WORDS = ("天气", "很好", "我们", "去", "公园", "看", "花", "the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "far", "一", "二")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
STEPS = 24


@dataclass(frozen=True)
class Material:
    """Files and models that the runs go on from."""

    text: Path
    more_text: Path
    dialogues: Path
    preferences: Path
    model: Path
    model_with_dropout: Path


def make_material(folder: Path) -> Material:
    """Everything from a few words, the same each time."""
    folder.mkdir(parents=True)
    choice = random.Random(0)

    def write(name: str, records: list[dict[str, Any]]) -> Path:
        path = folder / name
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        return path

    def words(number: int) -> str:
        return " ".join(choice.choice(WORDS) for _ in range(number))

    text = write("text.jsonl", [{"text": words(25)} for _ in range(150)])
    more_text = write("more.jsonl", [{"text": words(40)} for _ in range(80)])
    asked = [words(4) for _ in range(80)]
    dialogues = write("dialogues.jsonl", [{"messages": turns(question, question.split()[-1])} for question in asked])
    preferences = write(
        "preferences.jsonl",
        [{"instruction": question, "input": "", "chosen": question.split()[-1], "rejected": f"不 {words(2)}"} for question in asked],
    )
    base = {"model": SIZES, "tokenizer": {"vocab_size": 320, "template": "telechat2-bare"}, **_common(8)}
    for model in ("model", "model with dropout"):
        train({**base, "data": {"files": [str(text)], "sequence_length": 64}, "out": str(folder / model)})
    config = folder / "model with dropout" / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text(encoding="utf-8")), "hidden_dropout": 0.1, "attention_dropout": 0.1}), encoding="utf-8"
    )
    return Material(text, more_text, dialogues, preferences, folder / "model", config.parent)


def turns(question: str, answer: str) -> list[dict[str, str]]:
    """A dialogue of one question."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def variants(material: Material) -> dict[str, Mapping[str, Any]]:
    """Recipes without ``out``; all read packed rows, in micro-batches."""
    text = {"files": [str(material.text)], "sequence_length": 32}
    fresh = {"model": SIZES, "tokenizer": {"vocab_size": 320, "template": "telechat2-bare"}, "data": text, **_common(STEPS)}
    experts = {"num_experts": 4, "num_experts_per_token": 2, "intermediate_size": 24, "balance_factor": 0.01}
    dialogues = {"files": [str(material.dialogues)], "kind": "dialogues", "sequence_length": 64}
    going_on = {"model": {"start_from": str(material.model)}, "data": dialogues, **_common(STEPS)}
    sources = [
        {"name": "text", "files": [str(material.text)], "weight": 1.0},
        {"name": "more", "files": [str(material.more_text)], "weight": 0.5},
    ]
    phases = [
        {"name": "short", "until_tokens": 1024, "sequence_length": 32},
        {"name": "long", "until_tokens": 4096, "sequence_length": 64, "weights": {"more": 1.0}},
    ]
    curriculum = {"sources": sources, "sequence_length": 32, "phases": phases}
    return {
        "float32": fresh,
        "bfloat16": {**fresh, "dtype": "bfloat16"},
        "adamw": {**fresh, "optimizer": {"name": "adamw"}},
        "average of weights": {**fresh, "optimizer": {"average_decay": 0.9, "result": "average"}},
        "bfloat16 alone": {**fresh, "dtype": "bfloat16", "optimizer": {"master_weights": False}},
        "experts": {**fresh, "model": {**SIZES, "family": "ndl", "experts": experts}},
        "experts, bfloat16": {**fresh, "dtype": "bfloat16", "model": {**SIZES, "family": "ndl", "experts": experts}},
        "experts, selection biases": {
            **fresh,
            "model": {**SIZES, "family": "ndl", "experts": {**experts, "balance_factor": 0.0}},
            "experts_training": {"bias_rate": 0.001},
        },
        "curriculum": {**fresh, "data": curriculum, "budget": {}, "batch": {"rows_per_step": 4, "rows_per_micro_batch": 2}},
        "dialogues": going_on,
        "dropout": {**going_on, "model": {"start_from": str(material.model_with_dropout)}},
        "adapters": {**going_on, "lora": {"patterns": ["all-linear"], "rank": 4, "dropout": 0.1}},
        "preferences": {
            **going_on,
            "data": {"files": [str(material.preferences)], "kind": "preferences", "sequence_length": 64},
            "preference": {"kind": "dpo"},
        },
        "preferences, 4-bit base": {
            **going_on,
            "data": {"files": [str(material.preferences)], "kind": "preferences", "sequence_length": 64},
            "preference": {"kind": "dpo"},
            "lora": {"rank": 4, "base_format": "nf4"},
        },
        "spike guard": {**fresh, "guards": {"spike": 4.0, "window": 8}},
    }


def _common(steps: int) -> dict[str, Any]:
    return {
        "batch": {"rows_per_step": 4, "rows_per_micro_batch": 1},
        "budget": {"steps": steps},
        "checkpoint": {"every_steps": 1, "keep": 2},
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
    }
