"""``beichen perplexity``: its table is what the library finds, of the weights as they are and quantized."""

from __future__ import annotations

import json

import pytest
import torch

import beichen
from beichen.checkpoints.loading import load_checkpoint
from beichen.cli.main import main
from beichen.train.perplexity import perplexity_by_length, read_ids
from tests.cli.model_folder import model_folder as model_folder
from tests.inference.small_models import small_tokenizer
from tests.serve.test_served_adapters import write_adapter

FLAGS = ["--lengths", "16", "64", "--tokens", "320", "--device", "cpu", "--dtype", "float32", "--json"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("今天天气很好，我们去公园走一走。The weather is fine today.\n" * 12, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [None, "int8", "nf4"])
def test_the_table_is_of_the_weights_as_they_are_asked_for(model_folder, text, capsys, kind):
    given = [] if kind is None else ["--quantize", kind]
    assert main(["perplexity", str(model_folder), "--files", str(text), *FLAGS, *given]) == 0
    row = json.loads(capsys.readouterr().out)[str(model_folder)]
    ids = read_ids([str(text)], small_tokenizer(), tokens=320)
    found = {}
    for form in {None, kind}:
        decoder = load_checkpoint(model_folder, dtype=torch.float32, quantize=form).decoder
        found[form] = perplexity_by_length(decoder, ids, [16, 64])
    assert {int(length): value for length, value in row.items()} == pytest.approx(found[kind])
    assert kind is None or all(found[kind][length] != value for length, value in found[None].items()), "nothing was quantized"


def test_an_adapter_is_measured_on_its_base_beside_it(model_folder, text, tmp_path, capsys):
    folder = tmp_path / "adapter"
    write_adapter(folder, model_folder)
    assert main(["perplexity", str(model_folder), str(folder), "--files", str(text), *FLAGS]) == 0
    table = json.loads(capsys.readouterr().out)
    moved = beichen.load(folder, device="cpu", dtype="float32")
    found = perplexity_by_length(moved.decoder, read_ids([str(text)], small_tokenizer(), tokens=320), [16, 64])
    assert {int(length): value for length, value in table[str(folder)].items()} == pytest.approx(found)
    assert table[str(folder)] != table[str(model_folder)], "the adapter does nothing"


def test_the_trained_length_is_what_is_measured_by_default(model_folder, text, capsys):
    assert main(["perplexity", str(model_folder), "--files", str(text), "--device", "cpu", "--dtype", "float32"]) == 0
    assert capsys.readouterr().out.split()[0] == "192"


def test_text_under_another_key_is_read_and_dialogues_are_told_apart(model_folder, text, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"body": line}) + "\n" for line in text.read_text("utf-8").splitlines()))
    assert main(["perplexity", str(model_folder), "--files", str(other), *FLAGS, "--text-key", "body"]) == 0
    row = json.loads(capsys.readouterr().out)[str(model_folder)]
    ids = read_ids([str(other)], small_tokenizer(), tokens=320, text_key="body")
    found = perplexity_by_length(load_checkpoint(model_folder, dtype=torch.float32).decoder, ids, [16, 64])
    assert {int(length): value for length, value in row.items()} == pytest.approx(found)
    other.write_text(json.dumps({"messages": [{"role": "user", "content": "你好"}]}) + "\n")
    assert main(["perplexity", str(model_folder), "--files", str(other), *FLAGS]) == 2
    said = capsys.readouterr().err
    assert "this looks like a dialogue" in said and "--text-key" in said


def test_what_is_missing_is_said_before_weights_are_read(model_folder, capsys):
    assert main(["perplexity", str(model_folder), "--files", "nowhere.jsonl", *FLAGS]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: nowhere.jsonl: no such file") and "loading" not in said


def test_a_form_that_there_is_not_is_refused(model_folder, text, capsys):
    assert main(["perplexity", str(model_folder), "--files", str(text), *FLAGS, "--quantize", "int4"]) == 2
    assert "invalid choice: 'int4'" in capsys.readouterr().err


@pytest.mark.parametrize(("tokens", "said"), [("0", "expected 1 or more"), ("1", "less than one window of 64 tokens")])
def test_too_few_tokens_are_a_fault_of_the_flag(model_folder, text, capsys, tokens, said):
    assert main(["perplexity", str(model_folder), "--files", str(text), *FLAGS, "--tokens", tokens]) == 2
    assert f"--tokens {tokens}: {said}" in capsys.readouterr().err
