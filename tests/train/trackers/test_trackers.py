"""Trackers: every number of a record by its path, event files that hold what was added, names that are checked."""

from __future__ import annotations

import math
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event

from beichen.errors import MissingExtraError, SettingsError
from beichen.train.metrics import MetricsLog, read_metrics
from beichen.train.trackers import check_names, numbers, start_trackers
from beichen.train.trackers.service import run_id
from tests.full_disk import full_disk


def events(folder: Path) -> list[Event]:
    """All events of a folder, file after file. A record: length (8 bytes), its checksum (4), the message, its checksum (4)."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:])):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    return {(value.tag, event.step): value.simple_value for event in events(folder) for value in event.summary.value}


nested = st.recursive(
    st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans(), st.text(max_size=3), st.none(), st.lists(st.floats())),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), nested, max_size=4))
def test_numbers_are_found_by_their_paths_and_nothing_else_is(record):
    def at(path: str) -> Any:
        value: Any = record
        for part in path.split("/"):
            assert isinstance(value, dict)
            value = value[part]
        return value

    found = numbers(record)
    assert all(float(at(path)) == value for path, value in found.items())

    def count(value: object) -> int:
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    assert len(found) == count(record)


def test_event_files_hold_the_numbers_of_the_metrics(tmp_path):
    metrics = MetricsLog(tmp_path / "metrics.jsonl", trackers=start_trackers(["tensorboard"], tmp_path, {}))
    for step in range(1, 6):
        metrics.add(step=step, loss=1 / step, held_out={"zh": {"loss": 2.0 * step}}, answers={"a": "b"})
    metrics.close()
    found = scalars(tmp_path)
    for record in read_metrics(tmp_path / "metrics.jsonl"):
        for name, value in numbers(record).items():
            assert math.isclose(found[name, record["step"]], value, rel_tol=1e-6)
    assert len(found) == 10


def test_a_resumed_run_writes_what_it_repeats_anew(tmp_path):
    for first, last in ((0, 5), (3, 6)):
        (tracker,) = start_trackers(["tensorboard"], tmp_path, {}, first_step=first)
        for step in range(first + 1, last + 1):
            tracker.add(step, {"loss": float(100 * first + step)})
        tracker.close()
    assert [event.step for event in events(tmp_path) if event.HasField("session_log")] == [4]
    assert scalars(tmp_path) == {("loss", step): step if step < 4 else 300.0 + step for step in range(1, 7)}


def test_a_full_disk_holds_nobody_up(tmp_path):
    """Many more events than any queue would take; they are all there when there is room again."""
    (tracker,) = start_trackers(["tensorboard"], tmp_path, {})
    with full_disk(200):
        for step in range(1, 200):
            tracker.add(step, {"loss": float(step)})
    tracker.close()
    assert scalars(tmp_path) == {("loss", step): float(step) for step in range(1, 200)}


def test_unknown_and_missing_services_are_said(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"'tensorbord' is not known.*tensorboard"):
        check_names(["tensorbord"])
    for name in ("wandb", "swanlab"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=name) as fault:
            start_trackers([name], tmp_path, {})
        assert f"beichen[{name}]" in str(fault.value)


def test_a_folder_is_known_again(tmp_path):
    assert run_id(tmp_path) == run_id(tmp_path / "x" / "..") != run_id(tmp_path / "x")
