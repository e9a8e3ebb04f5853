"""MindSpore's layouts and the published one turn into each other, bit for bit; faults of the input are named."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from beichen.checkpoints.conversion import PUBLISHED, conversions, convert_folder
from beichen.checkpoints.digests import verify_digests
from beichen.checkpoints.loading import load_checkpoint
from beichen.errors import CheckpointError, ConfigError, SettingsError, StorageError
from beichen.models.registry import FAMILIES, load_family
from tests.checkpoints.folders import write_checkpoint
from tests.shared_data import shared

LAYOUTS = [
    (name, layout) for name in sorted(FAMILIES) for layout in load_family(name).layouts if layout not in load_family(name).expert_layouts
]


def raw(tensor):
    return tensor.reshape(-1).view(torch.uint8)


def equal_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(raw(one), raw(other))


def write(folder, family, **keys):
    groups = {} if family == "telechat2" else {"num_key_value_heads": None}
    sizes = {"hidden_size": 48, "num_attention_heads": 8, "intermediate_size": 24} | keys
    return write_checkpoint(folder, family, **sizes, **groups)


@pytest.mark.parametrize(("family", "layout"), LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_there_and_back_keeps_every_bit(tmp_path, family, layout, dtype):
    write(tmp_path / "original", family, dtype=dtype)
    convert_folder(tmp_path / "original", tmp_path / "there", to=layout)
    assert (tmp_path / "there" / f"{layout}.safetensors").exists() and verify_digests(tmp_path / "there") == []
    convert_folder(tmp_path / "there", tmp_path / "back", to=PUBLISHED)
    original, back = (load_file(tmp_path / folder / "model.safetensors") for folder in ("original", "back"))
    assert original.keys() == back.keys() and all(equal_bits(original[name], back[name]) for name in original)
    assert json.loads((tmp_path / "original" / "config.json").read_text()) == json.loads((tmp_path / "back" / "config.json").read_text())


@pytest.mark.parametrize("family", ["telechat", "telechat2"])
def test_a_dense_model_has_no_layout_of_experts(tmp_path, family):
    write(tmp_path / "original", family)
    with pytest.raises(SettingsError, match="has no layout 'mindspore_gmm'") as fault:
        convert_folder(tmp_path / "original", tmp_path / "there", to="mindspore_gmm")
    assert "mindspore_qkv_concat" in str(fault.value.remedy) and "mindspore_gmm" not in str(fault.value.remedy)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("case", ["convert-telechat2", "convert-telechat2-moe", "convert-telechat-52b"])
def test_equals_what_the_original_converters_wrote(case):
    folder = shared(f"golden/telechat/{case}")
    found = dict(conversions(folder, json.loads((folder / "golden.json").read_text())["files"]))
    assert len(found) == 6 and set(found.values()) == {0}


def test_a_conversion_that_differs_in_one_bit_is_noticed(tmp_path):
    case = tmp_path / "case"
    shutil.copytree(shared("golden/telechat/convert-telechat2"), case)
    case.chmod(0o755)
    tensors = load_file(case / "mindspore.safetensors")
    wq = tensors["model.layers.1.attention.wq.weight"]
    wq.view(torch.int32)[0, 0] ^= 1
    (case / "mindspore.safetensors").unlink()
    save_file(tensors, case / "mindspore.safetensors")
    found = dict(conversions(case, ["model.safetensors", "mindspore.safetensors"]))
    assert found == {"published -> mindspore": 1, "mindspore -> published": 1}


def test_ranks_hold_their_own_rows_of_queries_keys_and_values(tmp_path):
    decoder = write(tmp_path / "original", "telechat52b")
    convert_folder(tmp_path / "original", tmp_path / "there", to="mindspore_mp2")
    stored = load_file(tmp_path / "there" / "mindspore_mp2.safetensors")
    ours = decoder.state_dict()["layers.0.attention.qkv.weight"]  # 48 rows of queries, keys, values each
    first_rank = torch.cat((ours[0:24], ours[48:72], ours[96:120]))
    assert torch.equal(stored["model.layers.0.attention.w_qkv.weight"][:72], first_rank)
    gate_up = decoder.state_dict()["layers.0.feed_forward.gate_up.weight"]  # 24 rows of each
    assert torch.equal(stored["model.layers.0.feed_forward.w_gate_hidden.weight"][:24], torch.cat((gate_up[0:12], gate_up[24:36])))


def test_another_number_format_on_request(tmp_path):
    decoder = write(tmp_path / "original", "telechat2")
    convert_folder(tmp_path / "original", tmp_path / "there", to="mindspore", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "there" / "mindspore.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "there" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    convert_folder(tmp_path / "there", tmp_path / "back", to=PUBLISHED)
    back = load_checkpoint(tmp_path / "back").decoder.state_dict()
    assert all(torch.equal(back[name], tensor.bfloat16()) for name, tensor in decoder.state_dict().items())


def test_a_target_that_is_not_empty_is_refused(tmp_path):
    write(tmp_path / "original", "telechat2")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "note.txt").write_text("mine")
    with pytest.raises(StorageError, match="not an empty folder"):
        convert_folder(tmp_path / "original", tmp_path / "target", to="mindspore")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["note.txt"]


def test_heads_that_do_not_divide_among_the_ranks_are_an_error(tmp_path):
    write(tmp_path / "original", "telechat52b", num_attention_heads=6)
    with pytest.raises(ConfigError, match="num_attention_heads=6 does not divide among 4"):
        convert_folder(tmp_path / "original", tmp_path / "there", to="mindspore_mp4")
    assert not (tmp_path / "there").exists()


def test_an_unknown_layout_is_answered_with_those_of_the_family(tmp_path):
    write(tmp_path / "original", "telechat2")
    with pytest.raises(SettingsError, match=r"no layout 'mindspor'.*did you mean 'mindspore'"):
        convert_folder(tmp_path / "original", tmp_path / "there", to="mindspor")
    assert not (tmp_path / "there").exists()


def test_a_folder_whose_file_names_do_not_tell_its_layout(tmp_path):
    write(tmp_path / "original", "telechat2")
    convert_folder(tmp_path / "original", tmp_path / "there", to="mindspore")
    shutil.copy(tmp_path / "original" / "model.safetensors", tmp_path / "there")
    with pytest.raises(CheckpointError, match="several layouts: mindspore, published"):
        convert_folder(tmp_path / "there", tmp_path / "back", to=PUBLISHED)
    (tmp_path / "there" / "model.safetensors").unlink()
    (tmp_path / "there" / "mindspore.safetensors").rename(tmp_path / "there" / "other.safetensors")
    with pytest.raises(CheckpointError, match="do not tell its layout"):
        convert_folder(tmp_path / "there", tmp_path / "back", to=PUBLISHED)
    convert_folder(tmp_path / "there", tmp_path / "back", to=PUBLISHED, layout="mindspore")
    with pytest.raises(CheckpointError, match="unexpected"):
        convert_folder(tmp_path / "there", tmp_path / "wrong", to=PUBLISHED, layout="mindspore_qkv_concat")
    assert not (tmp_path / "wrong").exists()
