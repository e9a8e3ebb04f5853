"""Records survive writing and reading, wrong lines are named, and the committed file holds records that the page can be made from."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bench import records, report
from bench.sections import SECTIONS

RUN = records.Run(command="python -m bench", commit="abc", date="2026-01-01 00:00:00", machine="a machine", torch="2.13.0")


def test_a_record_is_the_median_with_half_the_range():
    row = RUN.record("training", "ours", [1.0, 5.0, 2.0], "tok/s", ceiling=4.0)
    assert (row.value, row.spread, row.runs, row.ceiling) == (2.0, 2.0, 3, 4.0)


def test_written_records_are_read_back(tmp_path):
    path = tmp_path / "results.jsonl"
    rows = [RUN.record("decoding", "1 rows: ours", [3.0], "tok/s", details={"ms": 1.0}), RUN.record("training", "ours", [1.0], "tok/s")]
    records.append(rows[:1], path)
    records.append(rows[1:], path)
    assert records.read(path) == rows


def test_an_unknown_field_is_named_with_its_line(tmp_path):
    path = tmp_path / "results.jsonl"
    records.append([RUN.record("training", "ours", [1.0], "tok/s")], path)
    with path.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(records.read(path)[0]) | {"extra": 1}) + "\n")
    with pytest.raises(ValueError, match=r"results\.jsonl:2.*extra"):
        records.read(path)


def test_the_page_shows_each_section_of_the_newest_run_and_its_ratios(tmp_path):
    later = dataclasses.replace(RUN, date="2026-01-02 00:00:00")
    rows = []
    for run, speed in ((RUN, 100.0), (later, 300.0)):
        rows += [run.record("training", name, [value], "tok/s", ceiling=400.0)
                 for name, value in (("ours", speed), ("transformers autocast", 150.0), ("transformers pure bf16", 200.0))]  # fmt: skip
    page = tmp_path / "RESULTS.md"
    report.write_page(rows, page)
    text = page.read_text(encoding="utf-8")
    assert "**2.00 x** (aim 1.5 x)" in text
    assert "**1.50 x** (aim 1.1 x)" in text
    assert "**75%**" in text
    assert "2026-01-01" not in text


def test_what_is_foreseen_stands_beside_what_is_reached():
    rows = [
        RUN.record("memory estimate", name, [9.0], "MB", details={"estimate / measured": share})
        for name, share in (("a", 0.96), ("b", 1.07))
    ]
    assert "**0.96 to 1.07** in 2 settings" in report.section_text("memory estimate", rows)


def test_the_committed_records_are_records():
    for row in records.read():
        assert row.section in SECTIONS
        assert row.runs >= 1 and row.spread >= 0 and row.value > 0
