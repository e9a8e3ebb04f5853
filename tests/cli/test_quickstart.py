"""``beichen quickstart`` as a user gives it: its refusals, and one minute on real text and dialogues."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import beichen
from beichen.cli.main import main
from beichen.cli.quickstart import _settings
from beichen.quickstart.begun import Begun
from beichen.quickstart.plan import make_plan
from beichen.quickstart.settings import QuickstartSettings
from beichen.train.metrics import read_metrics
from tests.shared_data import shared


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "--minutes 0: must be above 0"),
        (["--minutes", "inf"], "--minutes inf: must be above 0 and finite"),
        (["--experts", "1"], "--experts 1: must be 0, or at least 2"),
        (["--family", "lama"], "unknown model family 'lama' (did you mean 'llama'?)"),
        (["--family", "llama", "--experts", "4"], "family 'llama' has no mixture of experts\n  remedy: leave the experts out, or take"),
        (["--dialogues", "chats.jsonl"], "--dialogues: comes without --corpus"),
        (["--corpus", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--dtype", "float16"], "argument --dtype: invalid choice"),
        (["--out", "/proc/run"], "cannot write /proc/run"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_made(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["quickstart", *options]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {message}") and out == ""
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_stopped_has_its_own_settings_where_none_are_given(tmp_path, capsys):
    plan = make_plan(float32_peak=100.0, bfloat16_peak=100.0, minutes=2.0, bundled=True, with_dialogues=True)
    asked = QuickstartSettings(minutes=2.0, seed=5, experts=4, device="cpu")
    Begun(folder=str(tmp_path / "run"), settings=asked, plan=plan).save()
    out = str(tmp_path / "run")
    assert _settings({"out": out, "json": False}) == replace(asked, out=out)
    assert _settings({"out": out, "json": False, "threads": 1}) == replace(asked, out=out, threads=1)
    assert _settings({"json": False}) == QuickstartSettings()
    assert main(["quickstart", "--out", out, "--minutes", "3"]) == 2
    said = capsys.readouterr().err
    assert f"error: --out {out}: begun with other settings: minutes was 2.0 and is 3.0" in said
    assert f"`beichen quickstart --out {out}` goes on with those of the run" in said


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What the program printed, and its run."""

    folder: Path
    printed: list[str]
    figures: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    folder = tmp_path_factory.mktemp("real") / "run"
    corpus, dialogues = shared("data/corpus/zh_novels_classic.jsonl"), shared("data/sft/telechat2/dummy_sft_single.jsonl")
    command = [
        "quickstart",
        "--corpus",
        str(corpus),
        "--dialogues",
        str(dialogues),
        "--minutes",
        "1",
        "--out",
        str(folder),
        "--device",
        "cpu",
    ]
    done = subprocess.run([sys.executable, "-m", "beichen", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Finished(folder=folder, printed=done.stdout.splitlines(), figures=json.loads((folder / "report.json").read_text()))


def test_a_minute_on_real_text_lowers_the_loss_of_both_stages(finished):
    for stage in ("pretraining", "fine-tuning"):
        losses = [record["loss"] for record in read_metrics(finished.folder / stage / "metrics.jsonl")]
        tenth = max(1, len(losses) // 10)
        assert sum(losses[-tenth:]) < 0.9 * sum(losses[:tenth]), stage
    assert finished.figures["accuracy"] is None
    assert finished.printed[-1] == str(finished.folder / "report.json")


def test_its_folder_chats(finished, capsys):
    assert main(["chat", str(finished.folder), "--message", "你好，你是谁？", "--max-new-tokens", "8", "--device", "cpu"]) == 0
    assert "�" not in capsys.readouterr().out
    assert len(finished.figures["samples"]) == 3


def test_stock_transformers_reads_its_llama_folder_with_equal_logits(finished):
    from transformers import AutoModelForCausalLM

    ours = beichen.load(finished.folder, device="cpu", dtype="float32")
    theirs = AutoModelForCausalLM.from_pretrained(finished.folder / "llama", dtype=torch.float32).eval()
    ids = torch.tensor([ours.tokenizer.encode("话说天下大势，分久必合，合久必分。 To be, or not to be.")])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
