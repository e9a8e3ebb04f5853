"""``PatientFile``: bytes appended as they come; what a full disk does not take waits in memory and is written with later ones."""

from __future__ import annotations

from pathlib import Path

from beichen.util.files import explain_storage_faults


class PatientFile:
    """An open file at its end. Raises StorageError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path, self._waiting = path, b""
        with explain_storage_faults(path):
            self._file = path.open("ab", buffering=0)  # what finds no room is not tried again by the file itself

    @property
    def waiting(self) -> bytes:
        """What found no room yet."""
        return self._waiting

    def add(self, data: bytes = b"") -> None:
        """Append. Raises StorageError where not all found room; nothing is lost, and nothing need be added again."""
        self._waiting += data
        with explain_storage_faults(self.path):
            while self._waiting:  # a disk that is almost full takes a part
                self._waiting = self._waiting[self._file.write(self._waiting) :]

    def close(self) -> None:
        """Raises StorageError where something still finds no room."""
        try:
            self.add()
        finally:
            self._file.close()
