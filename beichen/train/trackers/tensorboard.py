"""TensorBoard: event files in ``tensorboard/`` of the run's folder, which `tensorboard --logdir` shows.

Written here and now, not by a thread of their own: such a thread ends where a disk is full, and whoever waits for it waits forever.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from beichen.errors import StorageError
from beichen.util.files import prepare_folder
from beichen.util.patient_file import PatientFile

FOLDER = "tensorboard"


class TensorBoard:
    """Writes as it goes; what a resumed run repeats replaces what was written before."""

    def __init__(self, folder: Path, first_step: int) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{first_step}"
        self._file = PatientFile(prepare_folder(folder / FOLDER) / name)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first_step:
            self._write(Event(wall_time=time.time(), step=first_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Any) -> None:
        """A record: length, its checksum, the message, its checksum."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        record = length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))
        with contextlib.suppress(StorageError):  # it waits; of the same disk metrics.jsonl has said so
            self._file.add(record)


def start(folder: Path, settings: Mapping[str, Any], first_step: int) -> TensorBoard:
    """Into ``folder``; the settings stand beside in settings.yaml."""
    return TensorBoard(folder, first_step)
