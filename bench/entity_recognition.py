"""python -m bench.entity_recognition --base DIR --questions cwxndl_ner.json [--out DIR]: LoRA of NDL's entity recognition.

One question in ten (by the hash of its text, so that copies stay together) is never trained on; the recipe recipes/ndl/ner_lora.yaml
trains on the others, on any base, and the share of held-out answers that equal the reference character for character is printed by class,
with the base's own share beside it. Answers with empty slots are always alike, so a constant answer is right about every second time;
that share is printed as well. ``--a.b VALUE`` changes the recipe: a small base needs other rates than the published one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import beichen
from beichen.config import parse_settings
from beichen.data.split import is_held_out
from beichen.evaluation.exact_match import Accuracy, Question, measure_accuracy
from beichen.text.messages import Message
from beichen.train.run import train
from beichen.train.settings import TrainRecipe

RECIPE = Path(__file__).parent.parent / "recipes/ndl/ner_lora.yaml"
HELD_OUT = 0.1
ANSWER_TOKENS = 96


def split(file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records to train on, records held out."""
    records = json.loads(file.read_text(encoding="utf-8"))
    held_out = [is_held_out(question_of(record), HELD_OUT) for record in records]
    return (
        [record for record, held in zip(records, held_out, strict=True) if not held],
        [record for record, held in zip(records, held_out, strict=True) if held],
    )


def question_of(record: dict[str, Any]) -> str:
    text: str = record["conversations"][0]["value"]
    return text


def answer_of(record: dict[str, Any]) -> str:
    text: str = record["conversations"][1]["value"]
    return text


def question(text: str, wanted: str) -> Question:
    """Right is what equals the reference."""
    return Question(
        messages=[Message(role="user", content=text)], check=lambda said: said.strip() == wanted, group=wanted[:4], expected=wanted
    )


def ask(folder: Path, records: Sequence[dict[str, Any]]) -> Accuracy:
    """Greedy answers of the model in a folder, held against the references."""
    model = beichen.load(folder)
    questions = [question(question_of(record), answer_of(record)) for record in records]
    return measure_accuracy(model.generator, model.tokenizer, questions, max_new_tokens=ANSWER_TOKENS)


def line(name: str, accuracy: Accuracy) -> str:
    """Overall with its interval, then by class."""
    low, high = accuracy.overall.interval
    classes = ", ".join(f"{group} {share.value:.1%} of {share.total}" for group, share in accuracy.groups.items())
    return f"{name:<18} {accuracy.overall.value:.1%} ({low:.1%} to {high:.1%}); {classes}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.entity_recognition")
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ndl-ner"))
    arguments, changes = parser.parse_known_args(argv)
    learnt, held_out = split(arguments.questions)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    file = arguments.out.with_suffix(".train.json")
    file.write_text(json.dumps(learnt, ensure_ascii=False), encoding="utf-8")
    given = ["--out", str(arguments.out), "--model.start_from", str(arguments.base), "--data.files", f"[{file}]", *changes]
    result = train(parse_settings(TrainRecipe, given, [RECIPE]))
    constant = Counter(map(answer_of, held_out)).most_common(1)[0][1] / len(held_out)
    print(f"{len(learnt)} questions learnt, {len(held_out)} held out; {result.as_text()}", file=sys.stderr)
    print(line("base", ask(arguments.base, held_out)))
    print(f"{'constant answer':<18} {constant:.1%}")
    print(line("base with adapters", ask(arguments.out, held_out)))


if __name__ == "__main__":
    main()
