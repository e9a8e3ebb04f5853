"""Contenders that are processes of their own and take turns: one optimizer step when told to, then they wait without using a core.

In: commands that speak the protocol of ``turn_taker``. Out: what each step was and how long it took, from the word to the answer, and the
most memory that the process and all it started held together. Rule: only one of them works at a time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.process_tree import tree_bytes

SAMPLE_SECONDS = 0.05


class Player:
    """One contender; it begins at once and works until the end of its first step."""

    def __init__(self, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path) -> None:
        """``log`` receives what the process says besides."""
        self.peak_bytes, self._log = 0, log
        with log.open("w", encoding="utf-8") as said:
            self._process = subprocess.Popen(
                command, cwd=cwd, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                text=True, encoding="utf-8",
            )  # fmt: skip
        threading.Thread(target=self._watch, daemon=True).start()

    def hear(self) -> dict[str, Any]:
        """What the process says next. Raises RuntimeError with its last words if it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._log}: exit code {self._process.wait()}: {self._log.read_text(encoding='utf-8')[-3000:]}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def step(self) -> tuple[float, dict[str, Any]]:
        """(seconds, what it says) of one more step."""
        begin = time.perf_counter()
        self._say("step")
        heard = self.hear()
        return time.perf_counter() - begin, heard

    def end(self) -> None:
        """Let it go; what it holds now counts too, however short it lived."""
        self._look()
        self._say("end")
        self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: hearing says why
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def _watch(self) -> None:
        while self._process.poll() is None:
            self._look()
            time.sleep(SAMPLE_SECONDS)

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, tree_bytes(self._process.pid))
