"""``beichen merge``: what it is given is checked before anything is read or written."""

from __future__ import annotations

from beichen.cli.main import main


def test_a_folder_without_an_adapter_is_called_that(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert main(["merge", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}: holds no adapter" in said and "remedy: name a folder that training with LoRA wrote" in said
    assert main(["merge", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err and not (tmp_path / "out").exists()
