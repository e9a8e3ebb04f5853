"""Fine-tuning beside trl, peft and transformers: whole dialogues, adapters, preferences; each contender a process of its own.

The first step (which compiles, allocates, reads ahead) and one more are not counted; then all take turns, one optimizer step a turn.
Targets a second are tokens a second times the share of targets in the whole data set, so that which rows came up does not count.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.finetune_checks import Agreement, check_dialogues, check_pairs
from bench.finetune_contenders import OURS, Contenders, Peer, contenders, start
from bench.finetune_verdicts import COMPILED
from bench.finetune_work import Work, prepare
from bench.records import BenchResult, Run
from bench.turns import Player

SECTIONS = {"sft": "fine-tuning", "lora": "adapters", "dpo": "preferences"}


def measure(run: Run, *, kind: str, rounds: int, compiled: bool) -> list[BenchResult]:
    """Records of one of ``SECTIONS``; ``compiled``: a section of its own, whose peers are under torch.compile."""
    section = SECTIONS[kind] + COMPILED * compiled
    return _measure(run, section, contenders(kind, compiled=compiled), prepare(), rounds)


def _measure(run: Run, section: str, given: Contenders, work: Work, rounds: int) -> list[BenchResult]:
    folder = Path(tempfile.mkdtemp(prefix="beichen-bench-"))
    everyone: dict[str, Peer | None] = {OURS: None, **given.peers}
    players: dict[str, Player] = {}
    first: dict[str, dict[str, Any]] = {}
    try:
        for name, peer in everyone.items():
            players[name] = start(given.kind, name, peer, work, folder / name)
            first[name] = players[name].hear()
            print(f"  {name}: first step done", file=sys.stderr, flush=True)
        steps = take_turns(players, rounds=rounds)
        agreements = {
            name: _check(given.kind, work, folder / name, first[name]) for name, peer in given.peers.items() if peer.autocast
        }  # fmt: skip
    finally:
        for player in players.values():
            player.end()
        shutil.rmtree(folder, ignore_errors=True)
    return [
        _record(run, section, given, name, steps[name], first[name], players[name], agreements.get(name), _share(given.kind, work))
        for name in everyone
    ]  # fmt: skip


def take_turns(players: dict[str, Player], *, rounds: int) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Every player's steps after one that is not counted; each round begins with another player."""
    names = list(players)
    steps: dict[str, list[tuple[float, dict[str, Any]]]] = {name: [] for name in names}
    for player in players.values():
        player.step()
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            steps[name].append(players[name].step())
    return steps


def _check(kind: str, work: Work, folder: Path, said: dict[str, Any]) -> Agreement:
    if kind == "dpo":
        found = check_pairs(work, folder / "reference.pt", targets=said["all_targets"])
    else:
        found = check_dialogues(work, folder / "first_step.pt", targets=said["all_targets"])
    print(f"  {folder.name}: {said['all_targets']:,} targets in all, as ours; {found.as_text()}", file=sys.stderr, flush=True)
    return found


def _share(kind: str, work: Work) -> float:
    if kind == "dpo":
        return float(work.pairs.targets.sum() / work.pairs.positions.sum())
    dialogues = work.dialogues
    return float(dialogues.scored.sum() / (dialogues.lengths - 1).sum())


def _record(
    run: Run, section: str, given: Contenders, name: str, steps: list[tuple[float, dict[str, Any]]], first: dict[str, Any], player: Player,
    agreement: Agreement | None, share: float,
) -> BenchResult:  # fmt: skip
    details = {
        "peak_MB": player.peak_bytes / 1e6,
        "tokens_per_second": sum(said["tokens"] for _, said in steps) / sum(seconds for seconds, _ in steps),
        "seconds_per_step": sum(seconds for seconds, _ in steps) / len(steps),
    }
    if "reference_seconds" in first and given.kind == "dpo":
        details["reference_seconds"] = first["reference_seconds"]
    if agreement is not None:
        details |= {"check_theirs": agreement.theirs, "check_ours": agreement.ours, "check_difference": agreement.difference}
    peer, versions = given.peers.get(name), f"; {first['versions']}" if "versions" in first else ""
    return run.record(
        section, name, [said["tokens"] * share / seconds for seconds, said in steps], "targets/s",
        settings=f"{given.ours if peer is None else peer.settings}; peak {details['peak_MB']:,.0f} MB{versions}", details=details,
    )  # fmt: skip
