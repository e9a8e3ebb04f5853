"""One flipped bit in any file is found, and the file is named."""

from __future__ import annotations

import random

import pytest

from beichen.checkpoints.digests import DIGESTS, verify_digests
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import CheckpointError
from tests.checkpoints.folders import random_decoder, write_checkpoint


@pytest.mark.parametrize("seed", range(6))
def test_one_flipped_bit_is_found_and_the_file_named(tmp_path, seed):
    save_checkpoint(tmp_path, random_decoder(), family="telechat2", shard_bytes=5000)
    assert verify_digests(tmp_path) == []
    dice = random.Random(seed)
    victim = dice.choice(sorted(path for path in tmp_path.iterdir() if path.name != DIGESTS))
    content = bytearray(victim.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    victim.write_bytes(bytes(content))
    assert verify_digests(tmp_path) == [f"{victim.name} differs from what was written (SHA-256)"]
    assert verify_digests(tmp_path, contents=False) == []


def test_missing_and_shortened_files_are_named(tmp_path):
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    faults = verify_digests(tmp_path, contents=False)
    assert faults[0] == "config.json is missing" and faults[1].startswith("model.safetensors has")


def test_a_folder_without_digests_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to compare"):
        verify_digests(tmp_path)
