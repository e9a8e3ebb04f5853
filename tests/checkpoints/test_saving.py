"""Saving after loading gives every tensor back bit for bit; the folder appears whole or not at all."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import itertools
import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from beichen.checkpoints.digests import verify_digests
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import BeichenError, CheckpointError, StorageError
from beichen.util import files
from tests.checkpoints.folders import random_decoder, write_checkpoint
from tests.golden.folders import GOLDEN
from tests.shared_data import shared


def all_tensors(folder):
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors" and path.name != "golden.safetensors":
            found |= load_file(path)
        elif path.suffix == ".bin":
            found |= torch.load(path, weights_only=True)
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def round_trip(source, target, **keys):
    """Load and save; every tensor and every key returns, and what is read again is equal."""
    loaded = load_checkpoint(source)
    save_checkpoint(target, loaded.decoder, family=loaded.family, published=loaded.published, source=source, **keys)
    before, after = all_tensors(source), all_tensors(target)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(bits(tensor), bits(after[name])) and (tensor.shape, tensor.dtype) == (after[name].shape, after[name].dtype)
    assert json.loads((target / "config.json").read_text()) == json.loads((source / "config.json").read_text())
    assert verify_digests(target) == []
    again = load_checkpoint(target).decoder.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in loaded.decoder.state_dict().items())


CASES = (
    "telechat/telechat-7b", "telechat52b/telechat-52b-long", "telechat2/telechat2-long", "telechat2/telechat2-experts", "llama/llama2",
    "llama/llama3", "ndl/ndl-dense", "ndl/moe_batch_aux_norm",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shard_bytes", [10**9, 20_000])
def test_a_round_trip_keeps_every_tensor_and_every_key(tmp_path, case, shard_bytes):
    round_trip(GOLDEN / case, tmp_path, shard_bytes=shard_bytes)
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 1) == (shard_bytes == 20_000)


@pytest.mark.parametrize("case", ["telechat-7b", "telechat-52b", "telechat2-115b", "telechat-12b-v2"])
def test_published_layouts_return_bit_for_bit_under_their_names(tmp_path, case):
    round_trip(shared(f"golden/telechat/{case}"), tmp_path)


def test_number_formats_that_differ_from_tensor_to_tensor_a_stored_tied_head_and_rope_tables_return(tmp_path):
    write_checkpoint(tmp_path / "a", "llama", tie_word_embeddings=True, dtype=torch.bfloat16)
    tensors = all_tensors(tmp_path / "a")
    tensors = {name: tensor.float() * 1.001 if "norm" in name else tensor for name, tensor in tensors.items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(2)
    save_file(tensors, tmp_path / "a" / "model.safetensors")
    round_trip(tmp_path / "a", tmp_path / "b")
    loaded = load_checkpoint(tmp_path / "a", dtype=torch.bfloat16)  # asked for: then the files hold it throughout
    save_checkpoint(tmp_path / "c", loaded.decoder, family="llama", published=loaded.published, source=tmp_path / "a")
    weights = all_tensors(tmp_path / "c")
    assert {tensor.dtype for name, tensor in weights.items() if "inv_freq" not in name} == {torch.bfloat16}


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
    decoder = write_checkpoint(tmp_path, seed=2, replace=True)
    assert torch.equal(load_checkpoint(tmp_path).decoder.head_weight, decoder.head_weight)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "digests.json", "model.safetensors", "report.json"}


def test_a_checkpoint_that_stands_is_replaced_only_when_asked(tmp_path):
    write_checkpoint(tmp_path, seed=1)
    before = contents(tmp_path)
    with pytest.raises(StorageError, match=r"holds a checkpoint already \(config\.json, model\.safetensors\)"):
        write_checkpoint(tmp_path, seed=2)
    assert contents(tmp_path) == before


def test_a_checkpoint_can_be_saved_over_its_own_source(tmp_path):
    decoder = write_checkpoint(tmp_path)
    torch.save(all_tensors(tmp_path) | {"transformer.h.0.attn.rotary_emb.inv_freq": torch.ones(4)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "LICENSE").write_text("free")
    loaded = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, loaded.decoder, family="telechat2", published=loaded.published, source=tmp_path, replace=True)
    assert torch.equal(load_checkpoint(tmp_path).decoder.head_weight, decoder.head_weight)
    assert torch.equal(all_tensors(tmp_path)["transformer.h.0.attn.rotary_emb.inv_freq"], torch.ones(4))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "digests.json", "LICENSE", "model.safetensors"}


class FailingDisk:
    """Lets ``good`` operations on files through, then refuses every one until it is removed."""

    def __init__(self, monkeypatch, good):
        self.left = good
        for module, name in ((os, "fsync"), (os, "rename"), (os, "mkdir"), (os, "sendfile"), (os, "link"), (files, "_exchange")):
            self._guard(monkeypatch, module, name)
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", partial(self._open, io.open))

    def spend(self):
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1

    def _guard(self, monkeypatch, module, name):
        real = getattr(module, name)

        def guarded(*arguments, **keys):
            self.spend()
            return real(*arguments, **keys)

        monkeypatch.setattr(module, name, guarded)

    def _open(self, real, path, mode="r", *arguments, **keys):
        file = real(path, mode, *arguments, **keys)
        return WatchedFile(file, self.spend) if "w" in mode else file


class WatchedFile:
    """An open file whose writes and closing are counted."""

    def __init__(self, file, spend):
        self._file, self._spend = file, spend

    def write(self, data):
        self._spend()
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()
        self._spend()  # flushing is where a full disk shows


@pytest.mark.parametrize("standing", [False, True])
def test_whichever_operation_fails_nothing_is_lost_and_nothing_half_written_stays(tmp_path, standing):
    """The n-th write, flush, link, making or renaming of a folder and all after it fail, for every n."""
    source, folder = tmp_path / "source", tmp_path / "models" / "model"
    write_checkpoint(source, seed=3)
    (source / "LICENSE").write_text("free")
    (source / "tokenizer_config.json").write_text("{}")
    folder.parent.mkdir()
    if standing:
        write_checkpoint(folder, seed=1)
        (folder / "report.json").write_text("{}")
    before = contents(folder)
    decoder = random_decoder(seed=2, num_hidden_layers=1)
    for good in itertools.count():
        with pytest.MonkeyPatch.context() as monkeypatch, contextlib.suppress(StorageError):
            FailingDisk(monkeypatch, good)
            save_checkpoint(folder, decoder, family="telechat2", source=source, shard_bytes=12_000, replace=True)
        assert [path.name for path in folder.parent.iterdir()] == (["model"] if folder.exists() else [])
        if contents(folder) != before:  # once renamed, the new one stands: all of it
            break
    assert good > 40 and verify_digests(folder) == []
    assert torch.equal(load_checkpoint(folder).decoder.head_weight, decoder.head_weight)
    assert (folder / "report.json").exists() == standing


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
