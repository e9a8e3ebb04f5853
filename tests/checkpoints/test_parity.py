"""Our decoder gives the numbers of the original code, read from its own files; a wrong number is noticed."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from beichen.checkpoints.parity import golden_folders, verify_folder
from tests.golden.folders import GOLDEN
from tests.shared_data import shared

CASES = golden_folders(GOLDEN)


def by_key(result):
    return {one.key: one for one in result.comparisons}


@pytest.mark.parametrize("folder", CASES, ids=[folder.name for folder in CASES])
def test_golden_cases_of_the_repository(folder):
    result = verify_folder(folder)
    assert not result.failed and result.skipped is None, result
    verdicts = by_key(result)
    assert [key for key, one in verdicts.items() if one.verdict == "skipped" and not key.endswith("_compat")] == []
    wanted = {"logits", "hidden_last", "loss", "greedy", "greedy_cached"}
    assert all(verdicts[key].verdict == "pass" for key in wanted)
    assert any(key.startswith("grad.") for key in verdicts)


def test_every_published_golden_that_is_at_hand():
    failed = [result for result in map(verify_folder, golden_folders(shared("golden"))) if result.failed]
    assert failed == []


def altered(tmp_path, key, change, case="telechat2/telechat2-long"):
    folder = tmp_path / "case"
    shutil.copytree(GOLDEN / case, folder)
    tensors = load_file(folder / "golden.safetensors")
    tensors[key] = change(tensors[key])
    save_file(tensors, folder / "golden.safetensors")
    return verify_folder(folder)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("logits", lambda x: x + 3e-4),
        ("logits", lambda x: x * torch.nan),
        ("loss", lambda x: x + 1e-4),
        ("greedy", lambda x: (x + 1) % 200),
        ("grad.transformer.ln_f.weight", lambda x: x * 1.01),
        ("logits_long", lambda x: x + 3e-4),
        ("logits_half_rope", lambda x: x + 3e-4),
        ("loss_half_rope", lambda x: x + 1e-4),
        ("rope.alpha", lambda x: x + 1),
        ("rope.cos_sin_last", lambda x: x + 0.01),
        ("hidden_last", lambda x: x[:, :, :-1].contiguous()),
    ],
)
def test_a_wrong_number_fails_its_key_and_no_other(tmp_path, key, change):
    result = altered(tmp_path, key, change)
    failed = {one.key for one in result.comparisons if one.verdict == "fail"}
    assert result.failed and failed == ({key, "greedy_cached"} if key == "greedy" else {key})


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("logn.factor", lambda x: x * 1.0001),
        ("long_batch.logits", lambda x: x + 4e-4),
        ("logits_long_plain", lambda x: x + 4e-4),
        ("logits_long_1", lambda x: x + 4e-4),
        ("rope.inv_freq", lambda x: x * 1.00001),
        ("greedy_long", lambda x: (x + 1) % 190),
        ("greedy_cached", lambda x: (x + 1) % 190),
    ],
)
def test_a_wrong_number_about_positions_fails_its_key_and_no_other(tmp_path, key, change):
    result = altered(tmp_path, key, change, case="qwen1/ntk_logn")
    failed = {one.key for one in result.comparisons if one.verdict == "fail"}
    assert failed == ({key, "greedy_long_cached"} if key == "greedy_long" else {key})


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("router_logits.1", lambda x: x + 3e-4),
        ("router_topk_ids.0", lambda x: (x + 1) % 6),
        ("router_topk_weights.1", lambda x: x + 3e-5),
        ("router_kept.0", lambda x: 1 - x),
        ("aux_loss.1", lambda x: x + 2e-6),
        ("aux_loss", lambda x: x + 2e-6),
        ("loss_total", lambda x: x + 2e-5),
        ("logits_capacity", lambda x: x + 3e-4),
        ("loss_capacity", lambda x: x + 3e-5),
        ("grad.transformer.h.0.mlp.router.weight", lambda x: x * 1.01),
    ],
)
def test_a_wrong_number_about_experts_fails_its_key_and_no_other(tmp_path, key, change):
    result = altered(tmp_path, key, change, case="telechat2/telechat2-experts")
    assert {one.key for one in result.comparisons if one.verdict == "fail"} == {key}


def test_without_the_balance_loss_the_router_would_have_another_gradient():
    """Its part is small, but far above the tolerance: the published case states both."""
    tensors = load_file(GOLDEN / "ndl" / "moe_batch_aux_norm" / "golden.safetensors")
    name = "model.layers.2.mlp.gate.weight"
    whole, alone = tensors[f"grad.{name}"], tensors[f"grad_main_only.{name}"]
    assert (whole - alone).norm() / whole.norm() > 10 * 1e-3


def test_every_key_of_qwen_1_is_compared():
    verdicts = {one.verdict for one in verify_folder(GOLDEN / "qwen1" / "ntk_logn").comparisons}
    assert verdicts == {"pass"}


def test_a_key_that_is_not_known_is_reported_as_skipped(tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(GOLDEN / "llama" / "llama2", folder)
    tensors = load_file(folder / "golden.safetensors") | {"router_logits.0": torch.zeros(2)}
    save_file(tensors, folder / "golden.safetensors")
    result = verify_folder(folder)
    assert not result.failed and by_key(result)["router_logits.0"].verdict == "skipped"


def test_a_family_without_tables_is_skipped_and_a_broken_folder_fails(tmp_path):
    shutil.copytree(GOLDEN / "llama" / "llama2", tmp_path / "case")
    config = tmp_path / "case" / "config.json"
    original = config.read_text()
    config.write_text(json.dumps(json.loads(original) | {"architectures": ["OtherForCausalLM"]}))
    result = verify_folder(tmp_path / "case")
    assert result.skipped is not None and not result.failed
    config.write_text(original)
    (tmp_path / "case" / "model.safetensors").unlink()
    result = verify_folder(tmp_path / "case")
    assert result.failed and "missing" in str(result.error)
