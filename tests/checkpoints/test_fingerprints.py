"""A base is known by its weights, however they lie in files."""

from __future__ import annotations

from beichen.checkpoints.fingerprints import weights_sha256
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from tests.checkpoints.test_adapter_folder import write_base


def test_the_hash_is_of_weights_not_of_files(tmp_path):
    base = write_base(tmp_path / "base")
    checkpoint = load_checkpoint(base)
    save_checkpoint(
        tmp_path / "shards", checkpoint.decoder, family="llama", published=checkpoint.published, source=base, shard_bytes=10_000
    )
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert weights_sha256(tmp_path / "shards") == weights_sha256(base)
