"""`beichen report`: one page of one or several runs; what is no run is said."""

from __future__ import annotations

import json

from beichen.cli.main import main
from beichen.cli.report import flat


def write_run(folder, steps=3, **settings):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": n, "tokens": n, "loss": 1.0}) + "\n" for n in range(1, steps + 1)))
    (folder / "settings.yaml").write_text(json.dumps({"seed": 0, "optimizer": {"name": "muon"}, **settings}))
    return folder


def test_it_writes_one_page_beside_the_first_run_or_where_told(tmp_path, capsys):
    runs = [write_run(tmp_path / name / "pretraining", seed=number) for number, name in enumerate("ab")]
    assert main(["report", *map(str, runs)]) == 0
    page = (runs[0] / "report.html").read_text()
    assert capsys.readouterr().out == f"{runs[0] / 'report.html'}\n"
    assert "a/pretraining" in page and "b/pretraining" in page and '<td class="said">seed</td>' in page
    assert main(["report", str(runs[1]), "--out", str(tmp_path / "one.html")]) == 0 and (tmp_path / "one.html").exists()


def test_what_is_no_run_is_said(tmp_path, capsys):
    write_run(tmp_path / "runs" / "first")
    assert main(["report", str(tmp_path / "runs")]) == 2
    assert "name one of the runs in it: first" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "holds no metrics.jsonl" in capsys.readouterr().err
    assert main(["report", *[str(tmp_path / "runs" / "first")] * 2]) == 2


def test_settings_are_flattened_by_dotted_key():
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": [3]}}}) == {"a": 1, "b.c": 2, "b.d.e": [3]}
