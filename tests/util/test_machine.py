"""Facts about the machine are there, whatever the machine."""

from __future__ import annotations

import json

import torch

from beichen.util import machine
from beichen.util.machine import compiler, hardware_facts, measure_matmul_peak, software_facts, usable_cores


def test_facts_are_plain_values():
    facts = hardware_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] == usable_cores() >= 1 and facts["cpu"]
    assert software_facts()["torch"] == torch.__version__


def test_a_machine_that_tells_little(monkeypatch):
    monkeypatch.setattr(machine, "_cpu_table", dict)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert compiler() is None
    facts = hardware_facts()
    assert facts["compiler"] is None and facts["instruction_sets"] == [] and facts["cpu"]


def test_the_compiler_is_the_one_asked_for(monkeypatch, tmp_path):
    mine = tmp_path / "my-compiler"
    mine.write_text("#!/bin/sh\necho my compiler 1.0\n")
    mine.chmod(0o755)
    monkeypatch.setenv("CXX", str(mine))
    assert compiler() == str(mine) and hardware_facts()["compiler"] == "my compiler 1.0"


def test_a_measured_peak_is_a_speed():
    assert 0.01 < measure_matmul_peak(torch.float32, sizes=(64, 128)) < 1e7
