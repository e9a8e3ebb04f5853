"""A folder in any published form loads to the same decoder; every fault is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from beichen.checkpoints.assembling import Assembly
from beichen.checkpoints.loading import load_checkpoint, load_config
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import CheckpointError, ConfigError
from beichen.nn.decoder import Matrix
from beichen.nn.quantized import QuantizedMatrix, kind_of, quantize
from tests import needs
from tests.checkpoints.folders import edit_config, random_decoder, write_checkpoint


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def as_bins(folder, separator, *, legacy=False, bare=False):
    """Rewrite a single-file folder as .bin shards with an index."""
    tensors = {(name.removeprefix("transformer.") if bare else name): tensor for name, tensor in weights_of(folder).items()}
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"pytorch_model{separator}{number:05d}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file, _use_new_zipfile_serialization=not legacy)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def same(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("family", ["telechat2", "llama"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_saved_is_loaded(tmp_path, family, tied, dtype):
    decoder = write_checkpoint(tmp_path, family, tie_word_embeddings=tied, dtype=dtype)
    loaded = load_checkpoint(tmp_path)
    assert loaded.family == family and loaded.decoder.config == decoder.config and same(loaded.decoder, decoder)
    assert next(loaded.decoder.parameters()).dtype == dtype and all(one.requires_grad for one in loaded.decoder.parameters())


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_bin_shards_load_under_each_name_and_with_or_without_prefix(tmp_path, separator, legacy, bare):
    decoder = write_checkpoint(tmp_path)
    as_bins(tmp_path, separator, legacy=legacy, bare=bare)
    torch.save({"stale": torch.zeros(1)}, tmp_path / "pytorch_model-00001-of-00003.bin")  # the index does not name it
    assert same(load_checkpoint(tmp_path).decoder, decoder)


def test_one_unsharded_file_of_any_name_loads(tmp_path):
    decoder = write_checkpoint(tmp_path)
    torch.save(weights_of(tmp_path), tmp_path / "telechat.pth")
    (tmp_path / "model.safetensors").unlink()
    assert same(load_checkpoint(tmp_path).decoder, decoder)


def test_the_number_format_changes_while_loading(tmp_path):
    decoder = write_checkpoint(tmp_path)
    assert same(load_checkpoint(tmp_path, dtype=torch.bfloat16).decoder, decoder.to(torch.bfloat16))


def test_ignorable_tensors_and_a_stored_copy_of_a_tied_head_are_accepted(tmp_path):
    decoder = write_checkpoint(tmp_path, tie_word_embeddings=True)
    tensors = weights_of(tmp_path)
    tensors["transformer.h.0.self_attention.rotary_emb.inv_freq"] = torch.zeros(4)
    tensors["lm_head.weight"] = tensors["transformer.word_embeddings.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    assert same(load_checkpoint(tmp_path).decoder, decoder)
    tensors["lm_head.weight"] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="ties the head"):
        load_checkpoint(tmp_path)


def test_missing_and_unexpected_tensors_are_listed(tmp_path):
    write_checkpoint(tmp_path)
    tensors = weights_of(tmp_path)
    del tensors["lm_head.weight"], tensors["transformer.ln_f.weight"]
    tensors["transformer.h.0.mlp.gate_proj.bias"] = torch.zeros(20)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as fault:
        load_checkpoint(tmp_path)
    message = str(fault.value)
    assert "2 missing" in message and "lm_head.weight" in message and "transformer.ln_f.weight" in message
    assert "1 unexpected:\n    transformer.h.0.mlp.gate_proj.bias" in message


def test_mis_shaped_tensors_are_listed_with_both_shapes(tmp_path):
    write_checkpoint(tmp_path)
    edit_config(tmp_path, ffn_hidden_size=21)
    with pytest.raises(CheckpointError, match=r"6 of another shape") as fault:
        load_checkpoint(tmp_path)
    assert "transformer.h.1.mlp.up_proj.weight in model.safetensors is [20, 24], config.json asks for [21, 24]" in str(fault.value)


def test_weights_that_are_no_floats_are_an_error(tmp_path):
    write_checkpoint(tmp_path)
    tensors = weights_of(tmp_path) | {"lm_head.weight": torch.zeros(40, 24, dtype=torch.int8)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="int8"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0, 4, 200, 0.5, 0.99])
def test_a_truncated_safetensors_shard_is_named(tmp_path, kept):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=shard.name):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0, 4, 200, 0.5, 0.99])
def test_a_truncated_bin_shard_is_named(tmp_path, kept, legacy):
    write_checkpoint(tmp_path)
    as_bins(tmp_path, "-", legacy=legacy)
    shard = sorted(tmp_path.glob("*.bin"))[1]
    content = shard.read_bytes()
    shard.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=shard.name):
        load_checkpoint(tmp_path)


def test_a_bin_that_would_run_code_is_refused(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"lm_head.weight": open}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        load_checkpoint(tmp_path)


def test_shards_that_are_missing_are_named(tmp_path):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    gone = sorted(tmp_path.glob("*.safetensors"))[2]
    gone.unlink()
    with pytest.raises(CheckpointError, match=gone.name):
        load_checkpoint(tmp_path)


def test_an_index_that_names_the_wrong_shard_is_an_error(tmp_path):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    index = tmp_path / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    names = list(table["weight_map"])
    table["weight_map"][names[0]] = table["weight_map"][names[-1]]
    index.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match="where the index says"):
        load_checkpoint(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../secret.bin"}}))
    with pytest.raises(CheckpointError, match="outside"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("lost", [(), (1,)])
def test_shards_without_an_index_are_an_error_that_counts_them(tmp_path, lost):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    (tmp_path / "model.safetensors.index.json").unlink()
    shards = sorted(tmp_path.glob("*.safetensors"))
    for number in lost:
        shards[number].unlink()
    with pytest.raises(CheckpointError, match="no index") as fault:
        load_checkpoint(tmp_path)
    assert f"holds {len(shards) - len(lost)} of {len(shards)}" in str(fault.value) and ("lacks number 2" in str(fault.value)) == bool(lost)


def test_several_files_of_any_name_without_an_index_are_an_error(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="several weights files"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("place", [".", ".cache/huggingface/download"])
def test_a_download_that_was_not_finished_is_named_with_the_way_on(tmp_path, place):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    gone.rename(tmp_path / place / f"{gone.name}.incomplete")
    with pytest.raises(CheckpointError) as fault:
        load_checkpoint(tmp_path)
    assert f"1 missing: {gone.name}; unfinished: {gone.name}.incomplete" in str(fault.value)
    assert "run it again" in (fault.value.remedy or "")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_a_git_lfs_pointer_is_recognised(tmp_path, name):
    write_checkpoint(tmp_path)
    if name.startswith("pytorch"):
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 4242\n")
    with pytest.raises(CheckpointError, match=rf"{name}: not the file itself but a Git LFS pointer") as fault:
        load_checkpoint(tmp_path)
    assert "git lfs pull" in (fault.value.remedy or "")


def test_all_kinds_of_faults_are_listed_at_once_and_many_as_ranges(tmp_path):
    write_checkpoint(tmp_path, num_hidden_layers=30)
    tensors = weights_of(tmp_path)
    del tensors["lm_head.weight"]
    tensors["transformer.ln_f.weight"] = torch.zeros(7)
    tensors["transformer.word_embeddings.weight"] = torch.zeros(40, 24, dtype=torch.int8)
    tensors |= {f"transformer.h.{layer}.mlp.gate_proj.bias": torch.zeros(20) for layer in range(30)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as fault:
        load_checkpoint(tmp_path)
    parts = (
        "1 missing:\n    lm_head.weight",
        "30 unexpected:\n    transformer.h.{0-29}.mlp.gate_proj.bias",
        "1 of another shape:\n    transformer.ln_f.weight in model.safetensors is [7]",
        "1 no floats:\n    transformer.word_embeddings.weight",
    )
    for part in parts:
        assert part in str(fault.value)


def test_a_folder_without_config_or_weights_or_a_folder_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(("content", "message"), [(b"{\n'a'", r"config\.json:2: not JSON"), (b"[]", "not an object"), (b"\xff{}", "UTF-8")])
def test_a_config_that_is_not_json_names_file_and_line(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_config_faults_name_the_file(tmp_path):
    write_checkpoint(tmp_path)
    edit_config(tmp_path, n_head=5)
    with pytest.raises(ConfigError, match=rf"{tmp_path}/config\.json: hidden_size=24 does not divide by n_head=5"):
        load_checkpoint(tmp_path)
    edit_config(tmp_path, architectures=["GPT2LMHeadModel"])
    with pytest.raises(ConfigError, match="unknown architecture 'GPT2LMHeadModel'"):
        load_checkpoint(tmp_path)


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_an_error(tmp_path):
    write_checkpoint(tmp_path)
    tokenizer: dict[str, Any] = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 39}}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    load_checkpoint(tmp_path)
    tokenizer["added_tokens"] = [{"id": 40, "content": "<_end>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match="its largest id is 40, but the embedding has only 40 rows"):
        load_checkpoint(tmp_path)


def test_a_name_misspelt_a_run_not_ended_and_a_file_of_another_kind_are_told_apart(tmp_path):
    (tmp_path / "quickstart-001" / "state").mkdir(parents=True)
    (tmp_path / "quickstart-001" / "settings.yaml").touch()
    (tmp_path / "README.md").write_text("# no JSON")
    (tmp_path / "config.json").write_text("{")
    for name, said in (
        ("quikstart-001", "no such folder (did you mean 'quickstart-001'?)"),
        ("quickstart-001", f"let it go on: the command that began it, or beichen train --config {tmp_path}/quickstart-001/settings.yaml"),
        ("README.md", "give a checkpoint folder, or its config.json"),
        ("config.json", "fetch it again"),
    ):
        with pytest.raises(CheckpointError) as fault:
            load_config(tmp_path / name)
        assert said in str(fault.value)


@pytest.mark.parametrize("family", ["telechat2", "llama"])
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantized_as_it_is_read_it_is_what_quantizing_all_of_it_gives(tmp_path, family, kind):
    decoder = write_checkpoint(tmp_path, family, hidden_size=48)
    as_bins(tmp_path, "-")
    quantize(decoder, kind)
    loaded = load_checkpoint(tmp_path, quantize=kind).decoder
    assert kind_of(loaded) == kind and same(loaded, decoder)
    ids = torch.arange(12)[None]
    assert torch.equal(loaded(ids), decoder(ids))


@needs.compiled_kernels
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_where_codes_are_multiplied_a_head_of_its_own_is_in_8_bits_too(tmp_path, kind):
    decoder = write_checkpoint(tmp_path / "own", "llama", hidden_size=48).to(torch.bfloat16)
    loaded = load_checkpoint(tmp_path / "own", dtype=torch.bfloat16, quantize=kind).decoder
    assert isinstance(decoder.head, Matrix) and isinstance(loaded.head, QuantizedMatrix)
    assert kind_of(loaded) == kind and same(loaded.head, QuantizedMatrix(decoder.head.weight.detach(), "int8"))
    assert torch.equal(loaded.head_weight, loaded.head.dequantized(torch.bfloat16))
    tied = write_checkpoint(tmp_path / "tied", "llama", tie_word_embeddings=True)
    loaded = load_checkpoint(tmp_path / "tied", dtype=torch.bfloat16, quantize=kind).decoder
    assert loaded.head is None and torch.equal(loaded.head_weight, tied.head_weight.to(torch.bfloat16))
    loaded = load_checkpoint(tmp_path / "own", dtype=torch.float32, quantize=kind).decoder
    assert isinstance(loaded.head, Matrix), "no kernel multiplies codes with float32"


def test_never_more_than_one_layer_is_held_unquantized(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, num_hidden_layers=4)
    held: list[int] = []
    fill = Assembly.fill

    def watched(self: Assembly, name: str, published: torch.Tensor) -> None:
        fill(self, name, published)
        held.append(sum(tensor.numel() for tensor, _ in self._open.values()))

    monkeypatch.setattr(Assembly, "fill", watched)
    loaded = load_checkpoint(tmp_path, quantize="int8").decoder
    layer = sum(matrix.codes.numel() for matrix in loaded.layers[0].modules() if isinstance(matrix, QuantizedMatrix))
    assert 0 < max(held) < layer and held[-1] == 0


def test_a_weight_that_cannot_be_quantized_is_named(tmp_path):
    write_checkpoint(tmp_path)
    weights = weights_of(tmp_path)
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    weights[name][0, 0] = float("inf")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.0\.feed_forward\.down\.weight: a weight is not finite"):
        load_checkpoint(tmp_path, quantize="nf4")
