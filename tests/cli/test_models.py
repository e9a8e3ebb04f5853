"""``beichen models``: the published figures, and the same facts of any config."""

from __future__ import annotations

import json

from beichen.cli.main import main
from beichen.models.presets import count_parameters, presets
from beichen.models.registry import FAMILIES, load_family
from tests.checkpoints.folders import write_checkpoint


def test_the_table_has_a_line_for_every_size_with_its_figures(capsys):
    assert main(["models"]) == 0
    lines = {words[0]: words for line in capsys.readouterr().out.splitlines() if (words := line.split())}
    for preset in presets():
        counts = count_parameters(preset.config)
        figures = (counts.total, counts.active, counts.non_embedding, counts.active_non_embedding)
        assert lines[preset.name][1:6] == [preset.family.name, *(f"{figure:,}" for figure in figures)]
    assert lines["telechat2-115b"][2] == "113,282,916,352" and lines["ndl-moe-1.3b"][5] == "516,400,000"


def test_as_json_it_gives_licences_conditions_and_switches(capsys):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["models"]] == [preset.name for preset in presets()]
    assert set(found["families"]) == set(FAMILIES)
    terms = found["families"]["telechat2"]
    assert terms["licence"]["name"] == "TeleChat community licence" and len(terms["licence"]["conditions"]) > 3
    assert "original_rope" in terms["compatibility"] and "mindspore" in terms["layouts"]
    scalars = {row["name"]: row["ignorable_scalars"] for row in found["models"] if row["ignorable_scalars"]}
    assert scalars == {"telechat-52b": 64}


def test_every_family_states_its_licence():
    for name in FAMILIES:
        licence = load_family(name).licence
        assert licence.name and licence.commercial_use and all(condition.endswith(".") for condition in licence.conditions)


def test_show_takes_a_folder_a_config_file_and_a_size(tmp_path, capsys):
    decoder = write_checkpoint(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").rename(tmp_path / "other.json")
    assert main(["models", "show", str(tmp_path / "other.json"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == sum(one.numel() for one in decoder.parameters()) == facts["active_parameters"]
    assert facts["licence"]["commercial_use"] == "on written permission"
    (tmp_path / "other.json").rename(tmp_path / "folder" / "config.json")
    assert main(["models", "show", str(tmp_path / "folder")]) == 0
    out = capsys.readouterr().out
    assert f"{facts['parameters']:,}" in out and "not of a model trained from nothing" in out
    assert main(["models", "show", "telechat-52b"]) == 0
    out = capsys.readouterr().out
    assert main(["models", "show", "TeleChat-52B"]) == 0 and capsys.readouterr().out == out
    for size, has in (("TeleChat2-7B", False), ("telechat2-39b-a12b", True)):
        assert main(["models", "show", size]) == 0
        shown = capsys.readouterr().out
        assert main(["models", size]) == 0 and capsys.readouterr().out == shown
        assert ("mindspore_gmm" in shown) == has
    assert "52,832,509,952" in out and "TeleChat community licence" in out and "Llama" not in out and "from nothing" not in out


def test_faults_exit_with_two_and_name_the_file(tmp_path, capsys):
    assert main(["models", "show", "telechat-52"]) == 2
    assert "did you mean 'telechat-52b'" in capsys.readouterr().err
    for words in (["show"], ["show", "telechat-52b", "telechat2-7b"], ["telechat-52b", "telechat2-7b"]):
        assert main(["models", *words]) == 2
        assert f"beichen models {' '.join(words)}: give one model" in capsys.readouterr().err
    assert main(["models", "telechat27b"]) == 2
    assert "telechat27b: no such folder, file or size (did you mean" in capsys.readouterr().err
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert main(["models", "list"]) == 0 and capsys.readouterr().out == table
    (tmp_path / "odd.json").write_text('{"architectures": ["TelechatForCausalLM"], "hidden_size": 8}')
    assert main(["models", "show", str(tmp_path / "odd.json")]) == 2
    assert f"{tmp_path / 'odd.json'}: config.json lacks 'n_head'" in capsys.readouterr().err
