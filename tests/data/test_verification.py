"""Encoded text is verified to the bit: any change of any shard is found and named, and all of them at once; headers alone are cheap."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from beichen.data import blocks
from beichen.data.encode_settings import EncodeSettings
from beichen.data.encoding_job import encode_sources
from beichen.data.shards import HEADER_BYTES
from beichen.data.source_list import sources_of_paths
from beichen.data.verification import verify_encoded_text
from beichen.errors import DataError
from tests.data.byte_tokenizer import ByteTokenizer

SETTINGS = EncodeSettings(shard_tokens=400, grades=True, held_out_fraction=0.2)


def encode(folder: Path, settings: EncodeSettings = SETTINGS) -> None:
    texts = folder.parent / "a.txt"
    if not texts.exists():
        texts.write_text("\n".join(f"sentence {number} of these" for number in range(150)), encoding="utf-8")
    encode_sources(sources_of_paths([texts], {"text_unit": "lines"}), ByteTokenizer(), folder, settings=settings, workers=1)


@pytest.fixture
def folder(tmp_path: Path, small_blocks: None) -> Path:
    encode(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 400)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.bin"))


def test_sound_text_has_no_fault(folder: Path) -> None:
    whole, quick = verify_encoded_text(folder), verify_encoded_text(folder, quick=True)
    assert whole.faults == quick.faults == [] and whole.documents == quick.documents == 150 and whole.shards == len(shards(folder)) > 4
    assert whole.bytes_read == sum(path.stat().st_size for path in shards(folder)) and quick.bytes_read == 0


@pytest.mark.parametrize("seed", range(6))
def test_one_flipped_bit_is_found_and_named(folder: Path, seed: int) -> None:
    """Anywhere in the file; without reading the ids, where it is in the header."""
    choice = random.Random(seed)
    damaged = choice.choice(shards(folder))
    content = bytearray(damaged.read_bytes())
    place = choice.randrange(HEADER_BYTES) if seed % 2 else choice.randrange(HEADER_BYTES, len(content))
    content[place] ^= 1 << choice.randrange(8)
    damaged.write_bytes(content)
    (fault,) = verify_encoded_text(folder).faults
    assert fault.startswith(f"{damaged}: ")
    assert verify_encoded_text(folder, quick=True).faults == ([fault] if place < HEADER_BYTES else [])


def test_every_damaged_shard_is_named_and_encoding_again_refuses_the_folder(folder: Path) -> None:
    short, gone, swapped, other, *_ = shards(folder)
    os.truncate(short, short.stat().st_size - 8)
    gone.unlink()
    swapped.write_bytes(other.read_bytes())
    faults = verify_encoded_text(folder, quick=True).faults
    expected = {short: "cut short", gone: "missing", swapped: "holds other documents"}
    assert {Path(fault.split(":")[0]) for fault in faults} == set(expected) and len(faults) == 3
    assert all(expected[Path(fault.split(":")[0])] in fault for fault in faults)
    with pytest.raises(DataError, match="cut short") as refusal:
        encode(folder)
    assert all(fault in str(refusal.value) for fault in faults) and "encode again" in str(refusal.value)


def test_a_finished_folder_that_is_sound_is_left_as_it_is(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards(folder)}
    encode(folder)
    assert {path: path.stat().st_mtime_ns for path in shards(folder)} == before


def test_parts_are_verified_together_and_one_alone(tmp_path: Path) -> None:
    for part in (1, 2):
        encode(tmp_path / "out", EncodeSettings(shard_tokens=400, held_out_fraction=0.2, part=(part, 2)))
    assert verify_encoded_text(tmp_path / "out").documents == 150
    assert verify_encoded_text(tmp_path / "out" / "part-1-of-2").faults == []
    (tmp_path / "out" / "part-2-of-2" / "encoded.json").unlink()
    with pytest.raises(DataError, match=r"part-2-of-2/encoded\.json: no readable description"):
        verify_encoded_text(tmp_path / "out")


def test_a_store_that_its_ledger_does_not_know_is_a_fault(folder: Path) -> None:
    description = folder / "encoded.json"
    description.write_text(description.read_text().replace('"items": 150', '"items": 149'))
    assert "its shards hold 150 documents, its ledger says 149" in verify_encoded_text(folder, quick=True).faults[0]


def test_a_folder_that_is_no_encoded_text_is_an_error_and_not_to_be_removed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"encoded\.json: no readable description") as fault:
        verify_encoded_text(tmp_path)
    assert fault.value.remedy == "give a folder that `beichen data encode` has made"
