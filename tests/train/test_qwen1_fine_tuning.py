"""recipes/qwen1/fine_tuning.yaml, run as its head says on a tiny checkpoint in Qwen 1's published layout: all weights, and adapters."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import beichen
from beichen.checkpoints.loading import load_checkpoint
from beichen.config import parse_settings
from beichen.text.tokenizer import Tokenizer
from beichen.train.metrics import read_steps
from beichen.train.result import TrainResult
from beichen.train.run import train
from beichen.train.settings import TrainRecipe
from tests.shared_data import REPOSITORY
from tests.train.small_runs import tiny_recipe, write_corpus, write_dialogues

RECIPE = REPOSITORY / "recipes" / "qwen1" / "fine_tuning.yaml"
SMALL = ["--data.sequence_length", "192", "--batch.rows_per_step", "4", "--batch.rows_per_micro_batch", "2", "--budget.epochs", "6",
         "--device", "cpu", "--threads", "1", "--optimizer.learning_rate", "3e-3"]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("qwen1")
    ranks = "".join(f"{base64.b64encode(bytes([value])).decode()} {value}\n" for value in range(256)).encode()
    qwen = Tokenizer({"qwen.tiktoken": ranks, "tokenizer_config.json": b'{"tokenizer_class": "QWenTokenizer"}'}, origin="bytes alone")
    qwen.save(folder / "tokenizer")
    sizes = {"family": "qwen1", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    made = tiny_recipe(
        folder / "base", write_corpus(folder / "corpus.jsonl"), steps=5, model=sizes, tokenizer={"path": str(folder / "tokenizer")},
        data={"files": [str(folder / "corpus.jsonl")], "sequence_length": 192},
    )  # fmt: skip
    return train(made).folder


def tuned(base: Path, folder: Path, *flags: str) -> TrainResult:
    dialogues = write_dialogues(folder / "dialogues.jsonl")
    given = ["--model.start_from", str(base), "--data.files", f"[{dialogues}]", "--out", str(folder / "run"), *SMALL, *flags]
    result = train(parse_settings(TrainRecipe, given, [RECIPE]))
    losses = [record["loss"] for record in read_steps(result.folder / "metrics.jsonl")]
    assert len(losses) > 8 and sum(losses[-4:]) < sum(losses[:4])
    answer = beichen.load(result.folder, device="cpu", dtype="float32").chat([{"role": "user", "content": "the cat"}], max_new_tokens=3)
    assert answer.finish_reason in ("stop", "length")
    return result


def test_all_weights_come_out_in_the_published_layout(tmp_path, base):
    result = tuned(base, tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, result.folder))
    assert before.keys() == after.keys() and "transformer.h.0.attn.c_attn.weight" in after
    assert json.loads((result.folder / "config.json").read_text())["model_type"] == "qwen"
    assert load_checkpoint(result.folder, device="cpu").family == "qwen1"


def test_the_adapters_of_its_head_are_on_every_layer_that_it_names(tmp_path, base):
    (line,) = (line for line in RECIPE.read_text().splitlines() if "--lora.patterns" in line)
    patterns = line.partition("'")[2].partition("'")[0]
    result = tuned(base, tmp_path, "--lora.patterns", patterns, "--lora.rank", "64")
    matrices = load_file(result.folder / "adapter_model.safetensors")
    for pattern in yaml.safe_load(patterns):
        found = [tensor for name, tensor in matrices.items() if f".{pattern}.lora_A" in name]
        assert [tensor.shape[0] for tensor in found] == [64, 64], f"{pattern}, in both layers"
    assert not (result.folder / "model.safetensors").exists()
