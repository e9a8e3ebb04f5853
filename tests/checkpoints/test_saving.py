"""Saving after loading gives every tensor back bit for bit; the folder appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from beichen.checkpoints import saving
from beichen.checkpoints.digests import verify_digests
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import BeichenError, CheckpointError, StorageError
from tests.checkpoints.folders import random_decoder, write_checkpoint
from tests.golden.folders import GOLDEN


def all_tensors(folder):
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name != "golden.safetensors":
            found |= load_file(path)
    return found


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


@pytest.mark.parametrize("case", ["telechat2/telechat2-long", "llama/llama2", "llama/llama3"])
@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_a_round_trip_keeps_every_tensor_and_every_key(tmp_path, case, shard_bytes):
    source = GOLDEN / case
    loaded = load_checkpoint(source)
    save_checkpoint(
        tmp_path, loaded.decoder, family=loaded.family, published=loaded.published, source=source, shard_bytes=shard_bytes
    )  # fmt: skip
    before, after = all_tensors(source), all_tensors(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(bits(before[name]), bits(after[name])) and before[name].shape == after[name].shape for name in before)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((source / "config.json").read_text())
    assert verify_digests(tmp_path) == []
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 1) == (shard_bytes == 20_000)
    again = load_checkpoint(tmp_path).decoder.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.decoder.state_dict().items())


def test_side_files_are_kept_and_names_without_prefix_stay_so(tmp_path):
    decoder = write_checkpoint(tmp_path / "a")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in all_tensors(tmp_path / "a").items()}
    (tmp_path / "a" / "model.safetensors").unlink()
    torch.save(bare, tmp_path / "a" / "pytorch_model.bin")
    for name in ("generation_config.json", "LICENSE", "special_tokens_map.json", "metrics.jsonl", ".lock"):
        (tmp_path / "a" / name).write_text("{}")
    save_checkpoint(tmp_path / "b", decoder, family="telechat2", source=tmp_path / "a")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "config.json", "digests.json", "generation_config.json", "LICENSE", "model.safetensors", "special_tokens_map.json",
    }  # fmt: skip
    assert all_tensors(tmp_path / "b").keys() == bare.keys()


def test_what_goes_beside_the_weights_is_written_and_digested(tmp_path):
    save_checkpoint(
        tmp_path, random_decoder(), family="telechat2", token_ids={"eos_token_id": 2}, generation={"eos_token_id": [2, 5]},
        write_extra=[lambda folder: (folder / "tokenizer_config.json").write_text("{}")],
    )  # fmt: skip
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == 2
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"eos_token_id": [2, 5]}
    (tmp_path / "tokenizer_config.json").write_text("{ }")
    assert verify_digests(tmp_path) == ["tokenizer_config.json has 3 bytes, 2 were written"]


def test_the_number_format_changes_while_saving_and_the_config_says_so(tmp_path):
    decoder = random_decoder()
    save_checkpoint(tmp_path, decoder, family="telechat2", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
    loaded = load_checkpoint(tmp_path).decoder.state_dict()
    assert all(torch.equal(tensor.bfloat16(), loaded[name]) for name, tensor in decoder.state_dict().items())


def test_the_config_never_states_another_number_format_than_the_files(tmp_path):
    write_checkpoint(tmp_path / "a")
    loaded = load_checkpoint(tmp_path / "a", dtype=torch.bfloat16)
    save_checkpoint(tmp_path / "b", loaded.decoder, family="telechat2", published=loaded.published)
    assert json.loads((tmp_path / "b" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_saving_anew_replaces_the_weights_and_keeps_the_rest(tmp_path):
    save_checkpoint(tmp_path, random_decoder(seed=1), family="telechat2", shard_bytes=5000)
    (tmp_path / "report.json").write_text("{}")
    decoder = write_checkpoint(tmp_path, seed=2)
    assert torch.equal(load_checkpoint(tmp_path).decoder.head_weight, decoder.head_weight)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "digests.json", "model.safetensors", "report.json"}


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_checkpoint(folder, seed=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real = saving.write_safetensors
    written: list[object] = []

    def full_after_the_first_shard(path, tensors):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return real(path, tensors)

    monkeypatch.setattr(saving, "write_safetensors", full_after_the_first_shard)
    with pytest.raises(StorageError, match=r"No space left"):
        save_checkpoint(folder, random_decoder(seed=2), family="telechat2", shard_bytes=5000)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_noticed_by_the_writer_itself():
    from beichen.checkpoints.safetensors_writing import planned, write_safetensors

    with pytest.raises(OSError, match="No space left"):
        write_safetensors(Path("/dev/full"), {"a": planned(torch.zeros(100_000))})


def test_a_tokenizer_that_does_not_fit_is_not_saved(tmp_path):
    tokenizer = json.dumps({"model": {"vocab": {"a": 40}}})
    with pytest.raises(CheckpointError, match="largest id is 40"):
        save_checkpoint(
            tmp_path / "a",
            random_decoder(),
            family="telechat2",
            write_extra=[lambda folder: (folder / "tokenizer.json").write_text(tokenizer)],
        )
    assert not (tmp_path / "a").exists()


def test_a_config_of_another_model_is_refused(tmp_path):
    write_checkpoint(tmp_path / "a")
    published = json.loads((tmp_path / "a" / "config.json").read_text()) | {"n_layer": 3}
    with pytest.raises(BeichenError, match="another model"):
        save_checkpoint(tmp_path / "b", random_decoder(), family="telechat2", published=published)
