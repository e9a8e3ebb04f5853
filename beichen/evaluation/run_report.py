"""One or several training runs as one page: how their settings differ, their curves side by side, what they said and what went wrong.

In: ``RunFigures`` (settings, metrics records, result). Out: HTML that needs nothing else. Nothing is computed anew: the metrics are the
truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from beichen.evaluation.plots import curves_svg
from beichen.util.page import page

FIRST = ("loss", "bits_per_byte", "gradient_norm", "learning_rate", "tokens_per_second")
_COUNTS = ("step", "tokens", "targets", "seconds", "epoch")
_STYLE = """
table { border-collapse: collapse; font-size: .9rem; } td, th { border-bottom: 1px solid var(--line); padding: .15rem .8rem .15rem 0;
        text-align: left; vertical-align: top; } th { font-weight: 600; } .figures { display: flex; flex-wrap: wrap; gap: 1rem; }
.figures svg { background: #fff; border-radius: 6px; width: 30rem; height: auto; } .said { white-space: pre-wrap; }
"""


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """One run as it stands on disk. ``settings``: by dotted key; ``result``: of a finished run."""

    name: str
    settings: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any] | None


def report_page(runs: Sequence[RunFigures], *, title: str = "Training report") -> str:
    """The whole page."""
    return page(title, _parts(runs), style=_STYLE)


def differing_settings(runs: Sequence[RunFigures]) -> dict[str, list[Any]]:
    """Keys whose values are not the same in all runs, with each run's value; where a run writes to is no difference."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: [run.settings.get(key) for run in runs] for key in keys if key != "out"}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def curves_of(runs: Sequence[RunFigures]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Every figure that the records hold as a number: figure -> run -> (millions of tokens, values)."""
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for run in runs:
        for record in run.records:
            if "tokens" not in record:
                continue
            for key, value in record.items():
                if key not in _COUNTS and isinstance(value, (int, float)) and not isinstance(value, bool):
                    x, y = found.setdefault(key, {}).setdefault(run.name, ([], []))
                    x.append(record["tokens"] / 1e6)
                    y.append(value)
    return dict(sorted(found.items(), key=lambda item: (FIRST.index(item[0]) if item[0] in FIRST else len(FIRST), item[0])))


def held_out_curves(runs: Sequence[RunFigures]) -> dict[str, tuple[list[float], list[float]]]:
    """Held-out loss by run and source, over millions of tokens: each evaluation counts from the record of the step before it."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        tokens = 0.0
        for record in run.records:
            tokens = record.get("tokens", tokens)
            for source, figures in record.get("held_out", {}).items():
                x, y = found.setdefault(f"{run.name}: {source}", ([], []))
                x.append(tokens / 1e6)
                y.append(figures["loss"])
    return found


def _parts(runs: Sequence[RunFigures]) -> Iterator[str]:
    yield from _results(runs)
    if len(runs) > 1:
        yield "<h2>Settings that differ</h2>"
        differing = differing_settings(runs)
        rows = [[key, *map(_shown, values)] for key, values in differing.items()]
        yield _table(["setting", *(run.name for run in runs)], rows) if rows else "<p>None: the runs were given the same settings.</p>"
    yield '<h2>Curves</h2><div class="figures">'
    if held_out := held_out_curves(runs):
        yield curves_svg(held_out, title="held-out loss", x_label="million tokens", y_label="nats per target")
    for figure, curves in curves_of(runs).items():
        yield curves_svg(curves, title=figure.replace("_", " "), x_label="million tokens", y_label="", smooth=_smoothing(figure))
    yield "</div>"
    for run in runs:
        yield from _faults(run)
        yield from _answers(run)
    for run in runs:
        rows = [[key, _shown(value)] for key, value in run.settings.items()]
        yield f"<h2>Settings of {escape(run.name)}</h2>"
        yield f"<details><summary>{len(rows)} settings</summary>{_table(['setting', 'value'], rows)}</details>"


def _smoothing(figure: str) -> float:
    """What a schedule lays down is shown as it is."""
    return 0.0 if figure in ("learning_rate", "rate_factor", "memory_bytes") else 0.9


def _results(runs: Sequence[RunFigures]) -> Iterator[str]:
    keys = dict.fromkeys(key for run in runs for key, value in (run.result or {}).items() if isinstance(value, (int, float)))
    rows = [[key.replace("_", " "), *(_shown((run.result or {}).get(key)) for run in runs)] for key in keys]
    yield "<h2>Results</h2>"
    unfinished = [run.name for run in runs if run.result is None]
    if unfinished:
        yield f"<p>Not finished: {escape(', '.join(unfinished))}</p>"
    if rows:
        yield _table(["", *(run.name for run in runs)], rows)


def _faults(run: RunFigures) -> Iterator[str]:
    faults = [record for record in run.records if "fault" in record]
    if faults:
        yield f"<h2>Faulty steps of {escape(run.name)}</h2>"
        yield _table(["step", "fault", "samples"], [[_shown(one["at_step"]), one["fault"], ", ".join(one["samples"])] for one in faults])


def _answers(run: RunFigures) -> Iterator[str]:
    looks = [record for record in run.records if record.get("answers")]
    if looks:
        yield f"<h2>What {escape(run.name)} said</h2>"
        prompts = list(looks[-1]["answers"])
        yield _table(
            ["step", *prompts], [[_shown(look["step"]), *(look["answers"].get(prompt, "") for prompt in prompts)] for look in looks]
        )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f'<td class="said">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "" if value is None else str(value)
