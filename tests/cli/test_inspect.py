"""``beichen inspect``: what a folder is, without loading it."""

from __future__ import annotations

import json

from beichen.cli.main import main
from tests.checkpoints.folders import edit_config, write_checkpoint


def test_a_folder_is_described(tmp_path, capsys):
    decoder = write_checkpoint(tmp_path)
    assert main(["inspect", str(tmp_path), "--json", "--digests"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] == "telechat2" and facts["dtype"] == ["float32"] and facts["digest_faults"] == []
    assert facts["parameters"] == sum(one.numel() for one in decoder.parameters())
    assert facts["parameters"] - facts["non_embedding_parameters"] == 2 * 40 * 24
    assert main(["inspect", str(tmp_path / "config.json")]) == 0
    assert "TeleChat2ForCausalLM" in capsys.readouterr().out


def test_a_config_alone_is_described_and_says_that_weights_are_missing(tmp_path, capsys):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert main(["inspect", str(tmp_path)]) == 0
    assert "no weights" in capsys.readouterr().out


def test_a_changed_file_exits_with_one_and_is_named(tmp_path, capsys):
    write_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert main(["inspect", str(tmp_path), "--digests"]) == 1
    assert "model.safetensors differs" in capsys.readouterr().out


def test_faults_exit_with_two(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 2
    assert "no config.json" in capsys.readouterr().err


def test_a_config_that_no_family_understands_is_described_with_the_reason(tmp_path, capsys):
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, architectures=["GPTNewForCausalLM"], rope_scaling={"type": "spiral"})
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["family"] is None and "unknown architecture 'GPTNewForCausalLM'" in facts["not_supported"]
    assert (facts["layers"], facts["hidden_size"], facts["vocabulary"], facts["rope_rule"]) == (2, 24, 40, "spiral")
    assert facts["parameters"] == facts["stored_numbers"] > 40 * 24


def test_a_key_that_is_not_understood_is_named_and_the_rest_described(tmp_path, capsys):
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, text_config=None, sliding_dream=3)
    assert main(["inspect", str(tmp_path / "config.json")]) == 0
    assert "sliding_dream" in capsys.readouterr().out


def test_of_a_model_with_several_parts_the_text_part_is_described(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"architectures": ["X"], "text_config": {"num_hidden_layers": 7, "hidden_size": 64}}')
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["layers"] == 7 and facts["hidden_size"] == 64 and facts["parameters"] is None
