"""The accumulation law as the script shows it: no cut of a step into micro-batches changes a gradient."""

from __future__ import annotations

from bench.accumulation import BOUND, compare_all


def test_no_cut_changes_a_gradient(tmp_path, capsys):
    assert compare_all(tmp_path) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 10 and f"bound {BOUND:g}" in printed
