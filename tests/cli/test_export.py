"""``beichen export``: a Llama folder beside ours; nothing is overwritten."""

from __future__ import annotations

import json

from beichen.cli.main import main
from tests.checkpoints.folders import write_checkpoint


def test_export_writes_llama_and_refuses_a_folder_that_holds_something(tmp_path, capsys):
    write_checkpoint(tmp_path / "a")
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b"), "--dtype", "bfloat16"]) == 0
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["torch_dtype"] == "bfloat16"
    before = (tmp_path / "b" / "model.safetensors").read_bytes()
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == before
