"""``beichen verify``: a line for each case, exit code 1 beyond tolerance, 2 where there is nothing to verify."""

from __future__ import annotations

import json
import shutil

from safetensors.torch import load_file, save_file

from beichen.cli.main import main
from tests.golden.folders import GOLDEN


def test_the_goldens_of_this_repository_pass(capsys):
    assert main(["verify", "--golden", str(GOLDEN)]) == 0
    out = capsys.readouterr().out.splitlines()
    cases = len(list(GOLDEN.rglob("golden.json")))
    assert len(out) == cases + 1 and out[-1] == f"{cases} cases: {cases} passed, 0 failed, 0 skipped"
    assert all("logits" in line and "greedy equal" in line for line in out[:-1])
    assert "original_rope" in next(line for line in out if line.startswith("telechat2/telechat2-long"))


def test_a_difference_beyond_tolerance_is_shown_and_exits_with_one(tmp_path, capsys):
    shutil.copytree(GOLDEN / "llama" / "llama2", tmp_path / "case")
    golden = load_file(tmp_path / "case" / "golden.safetensors")
    tensors = {key: tensor for key, tensor in golden.items() if not key.startswith("rope.")}
    save_file(tensors | {"logits": tensors["logits"] + 0.01}, tmp_path / "case" / "golden.safetensors")
    assert main(["verify", "--golden", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "case  FAIL  logits 1.0e-02 FAIL" in out and "fail     logits 1.00e-02 (allowed 1e-04)" in out
    assert "rope no golden" in out
    assert main(["verify", "--golden", str(tmp_path / "case"), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] == 1 and result["cases"][0]["comparisons"][0]["verdict"] == "fail"


def test_a_folder_without_goldens_is_an_error(tmp_path, capsys):
    assert main(["verify", "--golden", str(tmp_path)]) == 2
    assert main(["verify", "--golden", str(tmp_path / "nowhere")]) == 2
    assert "no golden.json" in capsys.readouterr().err
