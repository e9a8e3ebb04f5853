"""docs/python.md: its examples run, in order; the Chinese page shows the same code."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.cli.model_folder import model_folder as model_folder
from tests.inference.small_models import TEXTS
from tests.shared_data import REPOSITORY

PAGES = ("python.md", "python.zh.md")


def examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def without_comments(code: str) -> str:
    return re.sub(r" *# .*", "", code)


@pytest.mark.parametrize("page", PAGES)
def test_examples_run_in_order(page, model_folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(model_folder, tmp_path / "runs/quickstart-001")
    lines = [json.dumps({"text": text * 3 + str(number)}, ensure_ascii=False) for number, text in enumerate(TEXTS * 10)]
    (tmp_path / "novels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, code in enumerate(examples(page)):
        exec(compile(code, f"{page}, example {number + 1}", "exec"), names)
    said = capsys.readouterr().out
    assert "2<_end>\n" in said and "5 0\n" in said and "runs/no-such-run" in said


def test_both_pages_show_the_same_code():
    english, chinese = ([without_comments(code) for code in examples(page)] for page in PAGES)
    assert english == chinese and len(english) > 8
