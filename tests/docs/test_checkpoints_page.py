"""docs/checkpoints.md: its examples and commands run, in order, against a hub on localhost; the Chinese page shows the same."""

from __future__ import annotations

import re
import shlex

import pytest

from beichen.cli.main import main
from tests.checkpoints.hubs.hub_fixture import hub as hub
from tests.cli.model_folder import model_folder as model_folder
from tests.shared_data import REPOSITORY

PAGES = ("checkpoints.md", "checkpoints.zh.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code without comments) of every example."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return [(kind, re.sub(r" *# .*", "", code)) for kind, code in re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("page", PAGES)
def test_examples_and_commands_run_in_order(page, hub, model_folder, tmp_path, monkeypatch):
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()} | {"LICENSE": b"terms"}
    hub.publish("Tele-AI/TeleChat2-3B", files)
    hub.publish("TeleAI/TeleChat2-3B", files)
    hub.publish("TeleAI/TeleChat2-3B", files, revision="v1.0")
    monkeypatch.chdir(tmp_path)
    for kind, code in blocks(page):
        if kind == "python":
            exec(compile(code, page, "exec"), {})
            continue
        for line in code.splitlines():
            assert main(shlex.split(line)[1:]) == 0, line
    assert (tmp_path / "runs/mine/LICENSE").read_bytes() == b"terms" and (tmp_path / "runs/mine-llama/config.json").exists()


def test_both_pages_show_the_same():
    english, chinese = map(blocks, PAGES)
    assert english == chinese and len(english) == 3
