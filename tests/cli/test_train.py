"""``beichen train``: what it prints, its exit codes, and that bad input is two lines and no traceback; also without any compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from beichen.cli.main import main
from beichen.text.tokenizer import read_tokenizer
from beichen.train import run
from tests.shared_data import shared
from tests.train.small_runs import tiny_recipe, write_corpus


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe file of three steps; its run goes to tmp_path/run."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "run", write_corpus(tmp_path / "corpus.jsonl"), steps=3)), encoding="utf-8")
    return path


def test_settings_come_first_and_the_folder_last(recipe, tmp_path, capsys):
    assert main(["train", "--config", str(recipe), "--budget.steps", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-1] == str(tmp_path / "run") and lines[-2].startswith("2 steps, 256 tokens in ")
    assert yaml.safe_load(err.split("kernels:")[0])["budget"]["steps"] == 2, "every setting as it was resolved"


def test_figures_as_json(recipe, tmp_path, capsys):
    assert main(["train", "--config", str(recipe), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((tmp_path / "run" / "result.json").read_text()) and figures["steps"] == 3


def test_a_dry_run_leaves_nothing(recipe, tmp_path, capsys):
    assert main(["train", "--config", str(recipe), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stretches"] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_run_that_was_stopped_says_so_by_its_code(recipe, monkeypatch, capsys, option):
    finish = run.train
    monkeypatch.setattr(run, "train", lambda *given, **named: replace(finish(*given, **named), finished=False))
    assert main(["train", "--config", str(recipe), *option]) == 130


def test_a_finished_run_is_refused_and_stays(recipe, tmp_path, capsys):
    assert main(["train", "--config", str(recipe)]) == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert main(["train", "--config", str(recipe)]) == 2
    assert "holds a finished run\n  remedy: give another folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--budget.stpes", "3"], "--budget.stpes: unknown key 'stpes' in 'budget' (did you mean 'steps'?)"),
        (["--budget.steps", "many"], "budget.steps"),
        (["--model.num_attention_heads", "3"], "model.hidden_size=16 is not a multiple of model.num_attention_heads=3"),
        (["--model.family", "lama"], "unknown model family 'lama' (did you mean 'llama'?)"),
        (["--data.files", "[nowhere.jsonl]"], "nowhere.jsonl: no such file"),
        (["--model.start_from", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_settings_are_two_lines(recipe, tmp_path, capsys, option, message):
    assert main(["train", "--config", str(recipe), *option]) == 2
    fault = capsys.readouterr().err.partition("error: ")[2]
    assert message in fault and "Traceback" not in fault
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


DIRTY = {
    "broken_lines.jsonl": "broken_lines.jsonl:5: not JSON",
    "control_and_unicode.jsonl": "control_and_unicode.jsonl:9: 'text' holds half of a surrogate pair",
    "empty.jsonl": "empty.jsonl: no documents",
    "gbk.txt": "gbk.txt:1: invalid UTF-8 at byte 0",
    "invalid_utf8.jsonl": "invalid_utf8.jsonl:4: invalid UTF-8 at byte 8258",
    "long_line_repeat.jsonl": "1 document in all, too few to hold out",
    "misnamed.jsonl": "1 document in all, too few to hold out",
    "near_duplicates_key.jsonl": "near_duplicates_key.jsonl:1: no key 'text'",
    "utf16le_bom.txt": "utf16le_bom.txt: looks like UTF-16",
    "whitespace_only.txt": "whitespace_only.txt: no documents",
}


@pytest.mark.parametrize("name", DIRTY)
def test_a_dirty_corpus_is_refused_by_name_and_line(recipe, tmp_path, capsys, name):
    file = shared("data/corpus/dirty") / name
    assert main(["train", "--config", str(recipe), "--data.files", f"[{file}]"]) == 2
    fault = capsys.readouterr().err.partition("error: ")[2]
    assert DIRTY[name] in fault and "\n  remedy: " in fault
    assert not (tmp_path / "run" / "metrics.jsonl").exists() and not (tmp_path / "run" / "tokenizer").exists()


def test_text_of_another_tokenizer_is_refused_by_both_names(recipe, tmp_path, capsys):
    """End to end: encoded with one tokenizer, trained with another; the one it was encoded with is taken."""
    corpus, folders = tmp_path / "corpus.jsonl", [tmp_path / name for name in ("one", "two")]
    for folder, size in zip(folders, (300, 320), strict=True):
        assert main(["tokenizer", "train", "--input", str(corpus), "--vocab-size", str(size), "--out", str(folder)]) == 0
    assert main(["data", "encode", "--input", str(corpus), "--tokenizer", str(folders[0]), "--out", str(tmp_path / "text")]) == 0
    one, two = (read_tokenizer(folder).fingerprint for folder in folders)
    words = ["train", "--config", str(recipe), "--data.files", "[]", "--data.encoded", str(tmp_path / "text"), "--tokenizer.path"]
    capsys.readouterr()
    assert main([*words, str(folders[1])]) == 2
    fault = capsys.readouterr().err.partition("error: ")[2].splitlines()
    assert fault == [
        f"{tmp_path / 'text' / 'corpus' / 'train'}: was encoded by tokenizer {one[:12]}, not by {two[:12]}",
        "  remedy: encode the texts again, or use the tokenizer that they were encoded with",
    ]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert main([*words, str(folders[0])]) == 0


def test_without_any_compiler_it_trains_with_one_warning(recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    environment = os.environ | {"PATH": str(tmp_path / "empty"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "BEICHEN_KERNELS": ""}
    command = [sys.executable, "-m", "beichen", "train", "--config", str(recipe), "--dtype", "bfloat16"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1 and "no compiler: g++ not found" in warned[0], warned
    assert "kernels: no compiler: g++ not found" in done.stderr and (tmp_path / "run" / "model.safetensors").exists()
