"""Every event's own time lands in exactly one row of the table: that of the outermost event it knows."""

from __future__ import annotations

from dataclasses import dataclass

from bench.time_table import OTHER, share_out


@dataclass
class Event:
    name: str
    self_cpu_time_total: float
    cpu_parent: Event | None = None


def test_children_count_for_the_outermost_known_event():
    step = Event("bench: step", 5.0)
    head = Event("_LinearCrossEntropy", 10.0, step)
    inner = Event("aten::mm", 100.0, head)
    layer = Event("aten::mm", 1000.0, step)
    table = share_out([step, head, inner, layer])
    assert {name: round(1e6 * seconds) for name, seconds in table.items()} == {
        OTHER: 5,
        "head and cross-entropy": 110,
        "matmuls of the layers": 1000,
    }
