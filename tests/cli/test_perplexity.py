"""``beichen perplexity``: its table is what the library finds, of the weights as they are and quantized."""

from __future__ import annotations

import json

import pytest
import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.cli.main import main
from beichen.train.perplexity import perplexity_by_length, read_ids
from tests.cli.model_folder import model_folder as model_folder
from tests.inference.small_models import small_tokenizer

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


def test_a_form_that_there_is_not_is_refused(model_folder, text, capsys):
    assert main(["perplexity", str(model_folder), "--files", str(text), *FLAGS, "--quantize", "int4"]) == 2
    assert "invalid choice: 'int4'" in capsys.readouterr().err
