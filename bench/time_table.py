"""Where a training step's time goes, by operation: a table and a picture, from the profiler of torch.

Every event belongs to the outermost event around it whose name the table below knows; its own time (without its children)
counts there. So a matmul inside the cross-entropy or the optimizer counts as theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from bench.records import FOLDER, BenchResult, Run
from bench.trainers import OPTIMIZER, contenders
from bench.verdicts import PICTURE
from bench.workload import random_batch, reference_config

OPERATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (  # the first whose pattern is part of the event's name
    ("optimizer and clipping", (OPTIMIZER, "clip_grad", "Optimizer.step", "Optimizer.zero_grad")),
    ("head and cross-entropy", ("CrossEntropy", "log_softmax", "LogSoftmax", "nll_loss", "NllLoss")),
    ("attention", ("RopeAttention", "scaled_dot_product", "ScaledDotProduct")),
    ("norms", ("RmsNorm", "LayerNorm", "layer_norm")),
    ("swiglu", ("Swiglu", "silu", "Silu")),
    ("embedding", ("embedding", "Embedding")),
    ("matmuls of the layers", ("aten::linear", "aten::matmul", "MmBackward", "aten::mm", "aten::addmm", "mkldnn_linear", "LinearBackward")),
    ("casts and copies", ("aten::to", "ToCopyBackward", "aten::copy_", "aten::contiguous", "aten::cat", "aten::reshape", "CloneBackward")),
)
OTHER = "other"


def operation_of(name: str) -> str | None:
    """The table's row for an event's name, or None."""
    return next((operation for operation, patterns in OPERATIONS if any(pattern in name for pattern in patterns)), None)


def share_out(events: Iterable[Any]) -> dict[str, float]:
    """Own seconds of every event, by operation; events know their parent, name and own CPU time."""
    seconds: dict[str, float] = defaultdict(float)
    for event in events:
        operation, above = None, event
        while above is not None:
            operation = operation_of(above.name) or operation
            above = above.cpu_parent
        seconds[operation or OTHER] += event.self_cpu_time_total / 1e6
    return dict(seconds)


def profile_step(step: Callable[[], object], *, repeats: int = 3) -> dict[str, float]:
    """Seconds of one step by operation, the mean of a few, largest first; time outside all events stands under 'other'."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            with record_function("bench: step"):
                step()
    table = share_out(profiler.events())
    return dict(sorted(((name, value / repeats) for name, value in table.items()), key=lambda item: -item[1]))


def draw(tables: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """One stacked bar for every contender, milliseconds by operation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.7 * len(tables)))
    names = [operation for operation, _ in OPERATIONS] + [OTHER]
    names = [name for name in names if any(name in table for table in tables.values())]
    left = dict.fromkeys(tables, 0.0)
    for name in names:
        widths = [1e3 * tables[contender].get(name, 0.0) for contender in tables]
        axes.barh(list(tables), widths, left=list(left.values()), label=name)
        for contender, width in zip(tables, widths, strict=True):
            left[contender] += width
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of one step")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=5)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def measure(run: Run, *, picture: Path = FOLDER / PICTURE) -> list[BenchResult]:
    """Records of our step's time by operation, and a picture of it beside the best plain contender of transformers."""
    config = reference_config()
    tables = {}
    for name in ("ours", "bf16"):
        entrant = contenders(compiled=False)[name](config)
        for number in range(2):
            entrant.step(random_batch(config, number))
        tables[entrant.name] = profile_step(partial(entrant.step, random_batch(config, 2)))
    draw(tables, picture)
    return [
        run.record(
            "time table", f"{name}: {operation}", [1e3 * seconds], "ms", details={"share of the step": seconds / sum(table.values())}
        )
        for name, table in tables.items()
        for operation, seconds in table.items()
    ]
