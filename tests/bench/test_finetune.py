"""What fine-tuning is compared by: turns are taken fairly, a peer's rows become ours exactly, verdicts are ratios of the records."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from beichen.data.batch import IGNORED
from bench import finetune_verdicts
from bench.finetune import take_turns
from bench.finetune_checks import as_batch
from bench.finetune_contenders import AUTOCAST, contenders
from bench.records import FOLDER, Run
from bench.turns import Player

COUNTER = """
from bench.turn_taker import TurnTaker
taker, block = TurnTaker(), bytearray(64 << 20)
print("noise of a library")
for number in range(100):
    taker.done(number=number)
"""
RUN = Run(command="python -m bench sft", commit="abc", date="2026-01-01 00:00:00", machine="a machine", torch="2.13.0")


def player(tmp_path, program):
    return Player([sys.executable, "-c", program], cwd=FOLDER.parent, environment=os.environ, log=tmp_path / "log")


def test_players_step_when_told_and_their_noise_is_kept_apart(tmp_path):
    one = player(tmp_path, COUNTER)
    assert one.hear() == {"number": 0}
    steps = take_turns({"one": one}, rounds=3)
    assert [said["number"] for _, said in steps["one"]] == [2, 3, 4]  # the first two are not counted
    one.end()
    assert "noise" in (tmp_path / "log").read_text()
    assert one.peak_bytes > 64 << 20


def test_a_player_that_ends_is_named_with_its_last_words(tmp_path):
    one = player(tmp_path, "raise SystemExit('no memory')")
    with pytest.raises(RuntimeError, match="no memory"):
        one.hear()


def test_rows_of_a_peer_become_ours():
    rows = {
        "input_ids": torch.tensor([[5, 6, 7, 8, 9]]), "labels": torch.tensor([[IGNORED, 6, 7, IGNORED, 9]]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1]]),
    }  # fmt: skip
    batch = as_batch(rows)
    assert batch.targets.tolist() == [[6, 7, IGNORED, 9, IGNORED]]
    assert batch.first_visible.tolist() == [[0, 0, 0, 3, 3]]
    assert batch.target_count == 3


@pytest.mark.parametrize("kind", ["sft", "lora", "dpo"])
def test_every_kind_has_a_peer_of_our_precision(kind):
    plain, compiled = (contenders(kind, compiled=compiled).peers for compiled in (False, True))
    for peers in (plain, compiled):
        assert any(AUTOCAST in peer.settings or "float32 adapters" in peer.settings for peer in peers.values())
    assert [f"{name}{finetune_verdicts.COMPILED}" for name in plain] == list(compiled)
    assert {peer.compiled for peer in plain.values()} == {False} and {peer.compiled for peer in compiled.values()} == {True}


def test_verdicts_are_ratios_of_speed_and_memory():
    rows = [
        RUN.record("fine-tuning", "ours", [300.0], "targets/s", details={"peak_MB": 1000.0}),
        RUN.record(
            "fine-tuning", "trl", [150.0], "targets/s", details={"peak_MB": 4000.0, "check_theirs": 2.0, "check_ours": 2.001}
        ),
    ]  # fmt: skip
    assert finetune_verdicts.over_peers(rows) == [("trl", 2.0, 0.25)]
    text = "\n".join(finetune_verdicts.as_lines("fine-tuning", rows))
    assert "**2.00 x** (aim 1.5 x)" in text and "2.0000 in its run, 2.0010 by our decoder" in text
