"""``beichen checkpoint verify``: one flipped bit anywhere is found and its file named; without digests, what can be known is checked."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from beichen.checkpoints.saving import save_checkpoint
from beichen.cli.main import main
from tests.checkpoints.folders import edit_config, random_decoder


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, random_decoder("llama"), family="llama", shard_bytes=9000)
    return tmp_path


def verify(folder, capsys, *options):
    code = main(["checkpoint", "verify", str(folder), *options])
    return code, capsys.readouterr()


def test_a_sound_checkpoint_passes(folder, capsys):
    code, said = verify(folder, capsys)
    assert code == 0 and "no fault found" in said.out and "SHA-256" in said.out


@pytest.mark.parametrize("seed", range(4))
def test_one_flipped_bit_in_a_shard_exits_with_one_and_names_it(folder, capsys, seed):
    dice = random.Random(seed)
    shards = sorted(folder.glob("model-*.safetensors"))
    victim = dice.choice(shards)
    content = bytearray(victim.read_bytes())
    header = int.from_bytes(content[:8], "little") + 8
    content[dice.randrange(header, len(content))] ^= 1 << dice.randrange(8)
    victim.write_bytes(bytes(content))
    load_file(victim)  # which safetensors itself does not notice
    code, said = verify(folder, capsys)
    assert code == 1 and victim.name in said.out and not any(path.name in said.out for path in shards if path != victim)


def test_without_digests_it_says_so_and_checks_the_rest(folder, capsys):
    (folder / "digests.json").unlink()
    code, said = verify(folder, capsys)
    assert code == 0 and "no digests.json" in said.out and "names and shapes" in said.out and "finite" in said.out
    code, said = verify(folder, capsys, "--json")
    assert code == 0 and json.loads(said.out)["has_digests"] is False


def test_without_digests_numbers_that_are_not_finite_are_faults(folder, capsys):
    (folder / "digests.json").unlink()
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    tensors = load_file(shard)
    name = next(iter(tensors))
    tensors[name].view(-1)[3] = torch.nan
    save_file(tensors, shard)
    code, said = verify(folder, capsys)
    assert code == 1 and f"{name} in {shard.name} holds numbers that are not finite" in said.out


def test_without_digests_a_shard_of_another_model_is_an_error(folder, capsys):
    (folder / "digests.json").unlink()
    edit_config(folder, intermediate_size=21)
    code, said = verify(folder, capsys)
    assert code == 2 and "of another shape" in said.err


def test_without_digests_and_of_an_unknown_family_what_was_not_compared_is_said(folder, capsys):
    (folder / "digests.json").unlink()
    edit_config(folder, architectures=["NewForCausalLM"])
    code, said = verify(folder, capsys)
    assert code == 0 and "not compared  names and shapes of tensors" in said.out


def test_a_file_of_the_hub_cache_is_compared_with_the_digest_that_it_is_called_by(folder, capsys):
    from beichen.util.files import sha256_of

    (folder / "digests.json").unlink()
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    blob = folder.parent / sha256_of(shard)
    shard.rename(blob)
    shard.symlink_to(blob)
    code, said = verify(folder, capsys)
    assert code == 0 and "1 files with their SHA-256 on the hub" in said.out
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(bytes(content))
    code, said = verify(folder, capsys)
    assert code == 1 and f"{shard.name} differs" in said.out


def test_a_missing_shard_is_named(folder, capsys):
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    code, said = verify(folder, capsys)
    assert code == 1 and f"{shard.name} is missing" in said.out
    (folder / "digests.json").unlink()
    code, said = verify(folder, capsys)
    assert code == 2 and shard.name in said.err
