"""``beichen convert``: names the folder it wrote; faults exit with two and leave nothing behind."""

from __future__ import annotations

from safetensors.torch import load_file

from beichen.cli.main import main
from tests.checkpoints.folders import write_checkpoint


def test_there_and_back(tmp_path, capsys):
    write_checkpoint(tmp_path / "original")
    there, back = tmp_path / "there", tmp_path / "back"
    assert main(["convert", str(tmp_path / "original"), str(there), "--to", "mindspore_qkv_concat"]) == 0
    assert capsys.readouterr().out == f"{there}\n"
    assert "model.layers.0.attention.w_qkv.weight" in load_file(there / "mindspore_qkv_concat.safetensors")
    assert main(["convert", str(there), str(back), "--to", "published"]) == 0
    assert (back / "model.safetensors").read_bytes() == (tmp_path / "original" / "model.safetensors").read_bytes()


def test_faults_exit_with_two(tmp_path, capsys):
    write_checkpoint(tmp_path / "original")
    assert main(["convert", str(tmp_path / "original"), str(tmp_path / "original"), "--to", "mindspore"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "original"), str(tmp_path / "there"), "--to", "flax"]) == 2
    assert "no layout 'flax'" in capsys.readouterr().err and not (tmp_path / "there").exists()
