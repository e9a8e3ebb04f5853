"""The contenders of each kind of fine-tuning: ours as a recipe, the peers as jobs, and what makes two of them do the same work.

All have the same rows in a step (of preferences: about as many pairs), AdamW with the same settings, clipping, and no recomputation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from beichen.config import settings_as_yaml
from beichen.data.dialogue_settings import DialogueSettings
from beichen.errors import DataError
from beichen.objectives.preference_settings import PreferenceSettings
from beichen.train.adapter_settings import AdapterSettings
from beichen.train.optimizer_settings import ScheduleSettings
from beichen.train.settings import (
    BatchSettings,
    BudgetSettings,
    CheckpointSettings,
    DataSettings,
    ModelSettings,
    OptimizerSettings,
    TrainRecipe,
)
from bench.finetune_work import PAIRS, ROW, ROWS, SETTINGS, Work, sample_files
from bench.records import FOLDER
from bench.turns import Player

LEARNING_RATE = 2e-5
RANK, ALPHA = 16, 32
PAIRS_PER_STEP = 5  # of the peers; ours reads as many rows as hold about so many
PEERS = FOLDER / "peers/.venv/bin/python"
OURS = "ours"
DIALOGUES_PER_STEP = 6  # of peers that do not pack: about as many as stand in our rows
ACCUMULATED = f"{DIALOGUES_PER_STEP} accumulated"
AUTOCAST = "bf16 autocast over float32 weights"
PURE = "pure bf16 weights and moments"
MASTERS = "bf16 computation, float32 master weights and moments"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How a peer is set up. ``trainer``: sft and dpo are trl's, plain is transformers'."""

    trainer: str
    settings: str
    weights: str = "float32"
    autocast: bool = True
    packed: bool = True
    compiled: bool = False
    micro_batch: int = 1
    accumulation: int = ROWS


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """Those of one kind: ours, and the peers by name."""

    kind: str
    ours: str  # how it is set up
    peers: Mapping[str, Peer] = field(default_factory=dict)


def contenders(kind: str, *, compiled: bool) -> Contenders:
    """All of a kind; ``compiled``: the peers under torch.compile, alone, since all at once may not fit into memory."""
    pure: dict[str, Any] = {"weights": "bfloat16", "autocast": False}
    alone: dict[str, Any] = {"packed": False, "accumulation": DIALOGUES_PER_STEP}
    if kind == "dpo":
        single: dict[str, Any] = {"trainer": "dpo", "accumulation": PAIRS_PER_STEP}
        peers = {"trl": Peer(**single, settings=f"{AUTOCAST}, one pair at a time, {PAIRS_PER_STEP} accumulated")}
        mine = f"{MASTERS}, pairs packed, {ROWS} rows of {ROW}"
    elif kind == "lora":
        base: dict[str, Any] = {"weights": "bfloat16"}
        settings = f"bf16 base, float32 adapters of rank {RANK} on all linear layers, autocast"
        peers = {
            "trl + peft": Peer(**base, trainer="sft", settings=f"{settings}, packed (bfd)"),
            "trl + peft, one dialogue at a time": Peer(**base, **alone, trainer="sft", settings=f"{settings}, {ACCUMULATED}"),
            "transformers + peft, one dialogue at a time": Peer(**base, **alone, trainer="plain", settings=f"{settings}, {ACCUMULATED}"),
        }
        mine = f"bf16 base, adapters of rank {RANK} on all linear layers with float32 masters, packed"
    else:
        peers = {
            "trl": Peer(trainer="sft", settings=f"{AUTOCAST}, packed (bfd)"),
            "trl, one dialogue at a time": Peer(**alone, trainer="sft", settings=f"{AUTOCAST}, {ACCUMULATED}"),
            "transformers, one dialogue at a time": Peer(**alone, trainer="plain", settings=f"{AUTOCAST}, {ACCUMULATED}"),
            "transformers, pure bf16": Peer(**alone, **pure, trainer="plain", settings=f"{PURE}, one dialogue at a time, {ACCUMULATED}"),
        }
        mine = f"{MASTERS}, packed"
    if compiled:
        peers = {
            f"{name}, compiled": replace(peer, compiled=True, settings=f"{peer.settings}, torch.compile") for name, peer in peers.items()
        }
    return Contenders(kind=kind, ours=mine, peers=peers)


def recipe(kind: str, work: Work, out: Path) -> TrainRecipe:
    """Ours."""
    files = (str(PAIRS),) if kind == "dpo" else tuple(map(str, sample_files()))
    data = DataSettings(
        files=files, kind="preferences" if kind == "dpo" else "dialogues", sequence_length=ROW, held_out_fraction=0.0,
        dialogues=DialogueSettings(too_long=SETTINGS.too_long),
    )  # fmt: skip
    adapters: dict[str, Any] = {}
    if kind == "lora":
        adapters = {"lora": AdapterSettings(rank=RANK, alpha=ALPHA)}
    return TrainRecipe(
        out=str(out), model=ModelSettings(start_from=str(work.checkpoint)), data=data,
        batch=BatchSettings(rows_per_step=ROWS, rows_per_micro_batch=ROWS),
        optimizer=OptimizerSettings(name="adamw", learning_rate=LEARNING_RATE, weight_decay=0.1),
        schedule=ScheduleSettings(name="constant", warmup=0.0), budget=BudgetSettings(steps=10_000),
        checkpoint=CheckpointSettings(every_minutes=1000.0), preference=PreferenceSettings(), trackers=(), dtype="bfloat16", device="cpu",
        threads=torch.get_num_threads(), **adapters,
    )  # fmt: skip


def start(kind: str, name: str, peer: Peer | None, work: Work, folder: Path) -> Player:
    """The contender's process; ``peer`` is None for ours. ``folder`` is its own."""
    folder.mkdir(parents=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    if peer is None:
        file = folder / "recipe.yaml"
        file.write_text(settings_as_yaml(recipe(kind, work, folder / "out")), encoding="utf-8")
        command = [sys.executable, "-m", "bench.finetune_ours", str(file)]
        return Player(command, cwd=FOLDER.parent, environment=environment, log=folder / "log")
    if not PEERS.exists():
        raise DataError("bench/peers/.venv is missing, where the peers are installed", remedy="make bench-peers")
    file = folder / "job.json"
    job = asdict(peer) | {
        "checkpoint": str(work.checkpoint), "data": str(work.folder / ("pairs.npz" if kind == "dpo" else "dialogues.npz")),
        "row": ROW + 1,  # of ids: the last of a dialogue is a target only
        "learning_rate": LEARNING_RATE,
        "lora": {"rank": RANK, "alpha": ALPHA} if kind == "lora" else None, "threads": torch.get_num_threads(),
    }  # fmt: skip
    file.write_text(json.dumps(job), encoding="utf-8")
    # what our runs ask of the allocator in their process (util/memory.py): a tenth faster here, for a fifth more memory
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(256 << 20)}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HOME": str(folder / "cache")}
    command = [str(PEERS), "-m", "bench.finetune_peer", str(file)]
    return Player(command, cwd=FOLDER.parent, environment=environment | kept | offline, log=folder / "log")
