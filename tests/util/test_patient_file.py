"""What a full disk does not take is written later, once and in order."""

from __future__ import annotations

import pytest

from beichen.errors import StorageError
from beichen.util.patient_file import PatientFile
from tests.full_disk import full_disk


@pytest.mark.parametrize("room", [0, 3, 8, 100])
def test_nothing_is_lost_and_nothing_comes_twice(tmp_path, room):
    file = PatientFile(tmp_path / "x")
    file.add(b"first ")
    with full_disk(6 + room):
        for part in (b"second ", b"third "):
            if room < 13:
                try:
                    file.add(part)
                except StorageError as fault:
                    assert str(tmp_path / "x") in str(fault)
                    assert file.waiting
            else:
                file.add(part)
    file.add(b"fourth")
    file.close()
    assert (tmp_path / "x").read_bytes() == b"first second third fourth"


def test_closing_says_what_found_no_room(tmp_path):
    file = PatientFile(tmp_path / "x")
    with full_disk(2), pytest.raises(StorageError, match="cannot write"):
        file.add(b"12345")
    with full_disk(2), pytest.raises(StorageError, match="cannot write"):
        file.close()
