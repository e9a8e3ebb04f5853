"""The script that kills training runs, with three kills: what CI runs of it."""

from __future__ import annotations

import random

from bench.kill_training import kill_all, outcome


def test_three_kills_make_no_difference(tmp_path, capsys):
    assert kill_all(tmp_path, 3, ["experts, selection biases"], random.Random(0)) == 0
    assert "3 kills" in capsys.readouterr().out


def test_a_difference_of_one_bit_is_a_difference(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 1}\n')
        (tmp_path / folder / "result.json").write_text('{"loss": 2.0}')
        (tmp_path / folder / "model.safetensors").write_bytes(bytes([1, 2, 3]))
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    (tmp_path / "b" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 9}\n')
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b"), "the clock is no difference"
    (tmp_path / "b" / "model.safetensors").write_bytes(bytes([1, 2, 2]))
    assert outcome(tmp_path / "a") != outcome(tmp_path / "b")
