"""What a run was begun with comes back as it was, and a run goes on with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beichen.errors import BeichenError, SettingsError, StorageError
from beichen.quickstart.begun import BEGUN, Begun, read_begun
from beichen.quickstart.plan import make_plan
from beichen.quickstart.report import REPORT
from beichen.quickstart.settings import QuickstartSettings

PLAN = make_plan(float32_peak=123.4, bfloat16_peak=56.7, minutes=2.0, bundled=False, with_dialogues=True)
SETTINGS = QuickstartSettings(corpus=("小说.jsonl", "notes.txt"), dialogues=("chats.jsonl",), minutes=2.0, device="cpu", threads=1)


def begin(folder: Path) -> Begun:
    folder.mkdir()
    begun = Begun(folder=str(folder), settings=SETTINGS, plan=PLAN, seconds=7.25)
    begun.save()
    return begun


def test_what_is_written_is_read_until_the_report_is_there(tmp_path):
    assert read_begun(tmp_path / "run") is None
    begun = begin(tmp_path / "run")
    assert read_begun(tmp_path / "run") == begun
    (tmp_path / "run" / REPORT).write_text("{}")
    assert read_begun(tmp_path / "run") is None


def test_a_run_goes_on_with_its_own_settings_from_wherever_it_is_named(tmp_path, monkeypatch):
    begun = begin(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path / "run", Path("run"), Path("run/../run")):
        begun.check(out, replace(SETTINGS, out=str(out), device="cuda", threads=8))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"minutes": 3.0}, "minutes was 2.0 and is 3.0"),
        ({"seed": 1, "family": "llama"}, "family was telechat2 and is llama, seed was 0 and is 1"),
        ({"dtype": "bfloat16"}, "dtype was None and is bfloat16"),
    ],
)
def test_other_settings_are_named(tmp_path, changes: dict[str, Any], named):
    begun = begin(tmp_path / "run")
    with pytest.raises(SettingsError, match=named) as fault:
        begun.check(tmp_path / "run", replace(SETTINGS, **changes))
    assert f"`beichen quickstart --out {tmp_path / 'run'}`" in str(fault.value.remedy)


def test_a_folder_that_was_moved_is_told_where_it_was(tmp_path):
    begin(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    begun = read_begun(tmp_path / "moved")
    assert begun is not None
    with pytest.raises(StorageError, match=f"was begun as {tmp_path / 'run'}"):
        begun.check(tmp_path / "moved", SETTINGS)


def test_a_damaged_record_is_named(tmp_path):
    begin(tmp_path / "run")
    path = tmp_path / "run" / BEGUN
    path.write_text(path.read_text("utf-8").replace("vocab_size:", "vocab_sizes:"), "utf-8")
    with pytest.raises(BeichenError, match=BEGUN):
        read_begun(tmp_path / "run")
