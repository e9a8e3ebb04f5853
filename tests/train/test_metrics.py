"""The metrics file: what was added is read back, a kill costs at most the line being written, a resume cuts what it repeats."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import DataError
from beichen.train.metrics import MetricsLog, read_metrics, read_steps
from beichen.util.progress import SilentReporter
from tests.full_disk import full_disk


class Warnings(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def write(path, first: int, last: int, **more) -> None:
    log = MetricsLog(path, resume_step=first - 1)
    for step in range(first, last + 1):
        log.add(step=step, loss=1.0 / step, **more)
    log.close()


def test_what_was_added_is_read_back_before_the_file_is_closed(tmp_path):
    log = MetricsLog(tmp_path / "new" / "metrics.jsonl")
    log.add(step=1, loss=2.5, note="中文")
    assert read_metrics(log.path) == [{"step": 1, "loss": 2.5, "note": "中文"}]
    log.close()


def test_what_a_full_disk_does_not_take_is_written_when_there_is_room_again(tmp_path):
    write(tmp_path / "metrics.jsonl", 1, 9)
    log = MetricsLog(tmp_path / "metrics.jsonl", resume_step=9, reporter=(said := Warnings()))
    with full_disk((tmp_path / "metrics.jsonl").stat().st_size + 5):
        for step in (10, 11):
            log.add(step=step, loss=0.5)
        assert [record["step"] for record in read_metrics(log.path)] == list(range(1, 10))
        log.close()
    late, lost = said.warnings
    assert "training goes on" in late and "the last 2 records found no room and are lost" in lost and "metrics.jsonl" in lost
    log = MetricsLog(tmp_path / "metrics.jsonl", resume_step=9)
    with full_disk((tmp_path / "metrics.jsonl").stat().st_size + 5):
        log.add(step=10, loss=0.5)
    log.add(step=11, loss=0.25)
    log.close()
    assert [(record["step"], record["loss"]) for record in read_metrics(log.path)[9:]] == [(10, 0.5), (11, 0.25)]


def test_a_fault_within_the_block_is_the_one_that_is_raised(tmp_path):
    with full_disk(), pytest.raises(ZeroDivisionError), MetricsLog(tmp_path / "metrics.jsonl", reporter=(said := Warnings())) as log:
        log.add(step=1, loss=0.5)
        raise ZeroDivisionError
    assert "the last 1 records" in said.warnings[-1]


def test_going_back_takes_out_what_lies_beyond(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        log.add(step=step, loss=1.0)
    log.cut(3)
    log.add(step=3, fault="a spike")
    log.add(step=4, loss=2.0)
    log.close()
    assert [record["step"] for record in read_metrics(log.path)] == [1, 2, 3, 3, 4]
    assert [record["step"] for record in read_steps(log.path)] == [1, 2, 3, 4]


@given(st.integers(0, 400))
def test_a_kill_at_any_byte_costs_the_last_line_alone(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    write(path, 1, 9)
    whole = path.read_bytes()
    left = whole[: min(cut, len(whole))]
    path.write_bytes(left)
    records = read_metrics(path)
    assert [record["step"] for record in records] == list(range(1, left.count(b"\n") + 1))
    write(path, len(records) + 1, 9)
    assert path.read_bytes() == whole


def test_a_resume_cuts_off_what_it_will_repeat(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 8)
    write(path, 6, 7, resumed=True)  # the state on disk was that of step 5
    assert [(record["step"], record.get("resumed", False)) for record in read_metrics(path)] == [
        (1, False), (2, False), (3, False), (4, False), (5, False), (6, True), (7, True),
    ]  # fmt: skip


def test_a_fresh_run_starts_an_empty_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 3)
    MetricsLog(path).close()
    assert path.read_bytes() == b"" and read_metrics(path) == []


@pytest.mark.parametrize("line", ["not json", "5", "[]", '{"loss": 1}'])
def test_another_bad_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + f"\n{line}\n" + json.dumps({"step": 3}) + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a"):
        read_metrics(path)
