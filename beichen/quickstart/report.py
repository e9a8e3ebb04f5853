"""What a run reached: ``report.json``, a loss curve and an accuracy chart as PNG, and the table that is printed at the end."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.config import settings_as_dict
from beichen.data.sources import read_documents
from beichen.data.split import split_position
from beichen.evaluation.exact_match import Accuracy
from beichen.evaluation.plots import plot_accuracy, plot_curves
from beichen.nn import kernels
from beichen.quickstart.material import Material
from beichen.quickstart.plan import Plan
from beichen.quickstart.skills.registry import SKILLS
from beichen.text.messages import Message
from beichen.train.flops import flops_per_token
from beichen.train.metrics import read_steps
from beichen.train.result import TrainResult
from beichen.train.run_folder import METRICS
from beichen.util.files import write_atomically
from beichen.util.machine import hardware_facts, software_facts
from beichen.util.progress import Reporter

REPORT, LOSS_CURVE, ACCURACY_CHART = "report.json", "loss.png", "accuracy.png"
HELD_OUT_FRACTION = 0.05
_LABEL = 2 + max(len(skill.title_en) for skill in SKILLS)  # width of the left column of the table
MOST_BYTES_FOR_XZ = 64_000_000  # beyond this, compressing the user's text for comparison would take minutes


@dataclass(frozen=True, kw_only=True)
class Report:
    """The figures, and the same as text for the terminal."""

    folder: Path
    figures: dict[str, Any]
    text: str


def write_report(
    folder: Path, *, plan: Plan, material: Material, pretrained: TrainResult, tuned: TrainResult | None, marks: Accuracy | None,
    samples: Sequence[Sequence[Message]], seconds: float, reporter: Reporter,
) -> Report:  # fmt: skip
    """Write everything into ``folder``; ``seconds`` is the wall time of the whole job so far."""
    stages = [stage for stage in (pretrained, tuned) if stage is not None]
    training_seconds = sum(stage.seconds for stage in stages)
    speed = sum(stage.tokens for stage in stages) / max(training_seconds, 1e-9)
    figures: dict[str, Any] = {
        "accuracy": None if marks is None else _accuracy(marks),
        "bits_per_byte": pretrained.bits_per_byte,
        "xz_bits_per_byte": xz_bits_per_byte(material.corpus, reporter),
        "tokens_per_second": speed,
        "matmul_share": speed * flops_per_token(pretrained.folder) / (plan.matmul_peak_gflops * 1e9),
        "matmul_peak_gflops": plan.matmul_peak_gflops,
        "seconds": seconds,
        "training_seconds": training_seconds,
        "parameters": pretrained.parameters,
        "kernels": kernels.status().reason,
        "plan": settings_as_dict(plan),
        "stages": [stage.as_dict() for stage in stages],
        "samples": [[{"role": message.role, "content": message.content} for message in dialogue] for dialogue in samples],
        "hardware": hardware_facts(),
        "software": software_facts(),
    }
    curves = {}
    for stage in stages:
        records = read_steps(stage.folder / METRICS)
        curves[stage.folder.name] = ([record["tokens"] / 1e6 for record in records], [record["loss"] for record in records])
    plot_curves(folder / LOSS_CURVE, curves, title="Training loss", x_label="million tokens", y_label="nats per target", smooth=0.9)
    if marks is not None:
        shares = {skill.title_en: marks.groups[skill.name] for skill in SKILLS if skill.name in marks.groups}
        baselines = {skill.title_en: skill.guess_baseline for skill in SKILLS}
        plot_accuracy(folder / ACCURACY_CHART, shares, title="Held-out exact match", baselines=baselines)
    write_atomically(folder / REPORT, json.dumps(figures, ensure_ascii=False, indent=1) + "\n")
    return Report(folder=folder, figures=figures, text=as_text(folder, figures))


def _accuracy(marks: Accuracy) -> dict[str, Any]:
    """Shares as plain numbers, and what guessing reaches; intervals and counts beside them."""
    return {
        "overall": marks.overall.value,
        "skills": {name: share.value for name, share in marks.groups.items()},
        "guess_baselines": {skill.name: skill.guess_baseline for skill in SKILLS},
        "counts": marks.as_dict(),
    }


def xz_bits_per_byte(corpus: Sequence[str], reporter: Reporter) -> float | None:
    """What ``xz -9`` needs for the held-out text when it has read the rest; None for more text than that is worth."""
    known, held_out = bytearray(), bytearray()
    for document in read_documents(corpus, on_bad="count"):
        (held_out if split_position(document.text) < HELD_OUT_FRACTION else known).extend(document.text.encode() + b"\n")
        if len(known) + len(held_out) > MOST_BYTES_FOR_XZ:
            return None
    if not held_out:
        return None
    with reporter.track("compressing for comparison", total=2, unit="passes") as task:
        before = len(lzma.compress(bytes(known), preset=9))
        task.advance()
        both = len(lzma.compress(bytes(known + held_out), preset=9))
        task.advance()
    return 8.0 * (both - before) / len(held_out)


def as_text(folder: Path, figures: dict[str, Any]) -> str:
    """The closing table, sample dialogues and what to type next."""
    lines = []
    accuracy = figures["accuracy"]
    if accuracy is not None:
        lines.append(f"{'held-out accuracy':<{_LABEL}}{'model':>8}{'guessing':>10}")
        for skill in SKILLS:
            share, guess = accuracy["skills"][skill.name], accuracy["guess_baselines"][skill.name]
            lines.append(f"{skill.title_en:<{_LABEL}}{share:>8.1%}{guess:>10.1%}   {skill.title_zh}")
        lines += [f"{'overall':<{_LABEL}}{accuracy['overall']:>8.1%}", ""]
    rows = {
        "held-out bits per byte": _number(figures["bits_per_byte"], ".3f"),
        "the same by xz -9": _number(figures["xz_bits_per_byte"], ".3f"),
        "parameters": f"{figures['parameters']:,}",
        "tokens per second": f"{figures['tokens_per_second']:,.0f}",
        "share of matmul peak": f"{figures['matmul_share']:.0%} of {figures['matmul_peak_gflops']:.0f} GFLOP/s",
        "kernels": figures["kernels"],
        "wall time": f"{figures['seconds'] / 60:.1f} min",
    }
    lines += [f"{name:<{_LABEL}}{value}" for name, value in rows.items()]
    for dialogue in figures["samples"]:
        lines.append("")
        lines += [f"{message['role']:>9}: {message['content'].strip()}" for message in dialogue]
    lines += [
        "", "next:", f"  beichen chat {folder}", f"  beichen generate {folder} --prompt '...'",
        f"  open {folder / LOSS_CURVE}", "", str(folder / REPORT),
    ]  # fmt: skip
    return "\n".join(lines)


def _number(value: float | None, form: str) -> str:
    return "not measured" if value is None else format(value, form)
