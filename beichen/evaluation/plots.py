"""Figures as PNG files: values in, one file out, drawn without a display.

Names may be Chinese where the system has a Chinese font; ``fonts.stand_ins`` tells which can be shown.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.evaluation.exact_match import Share
from beichen.evaluation.fonts import figure_fonts
from beichen.util.files import write_atomically
from beichen.util.page import PICTURE_MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_POINTS = 40  # below, each point of a curve is shown as it is
_GRID: dict[str, Any] = {"color": "#dddddd", "linewidth": 0.6}


@figure_fonts()
def plot_curves(
    path: Path | str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, x_label: str, y_label: str,
    smooth: float = 0.0, marks: Mapping[str, float] | None = None,
) -> None:  # fmt: skip
    """Lines of (x, y) by name. smooth: share of the old value in a running mean, drawn over the faint raw line of curves with many points.
    marks: named x.
    """
    _write(_curves(curves, title=title, x_label=x_label, y_label=y_label, smooth=smooth, marks=marks), path)


def curves_svg(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, x_label: str, y_label: str, smooth: float = 0.0
) -> str:  # fmt: skip
    """The same as SVG, to stand in a page: its words stay words, in the page's fonts."""
    from matplotlib import rc_context

    content = io.StringIO()
    with rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a font of the page shows it
        figure = _curves(curves, title=title, x_label=x_label, y_label=y_label, smooth=smooth)
        figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return content.getvalue()[content.getvalue().index("<svg") :]


def _curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str, x_label: str, y_label: str, smooth: float,
    marks: Mapping[str, float] | None = None,
) -> Figure:  # fmt: skip
    figure, axes = _canvas(8.0, 4.5, title)
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour = f"C{number}"
        if smooth and len(y) >= FEW_POINTS:
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(x, smoothed(y, smooth), color=colour, label=name, linewidth=1.6)
        else:
            axes.plot(x, y, color=colour, label=name, linewidth=1.6, marker="o" if len(y) < FEW_POINTS else None, markersize=3)
    for name, place in (marks or {}).items():
        axes.axvline(place, color="#888888", linestyle="--", linewidth=0.8)
        axes.annotate(f" {name}", (place, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8, color="#555555")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(**_GRID)
    if len(curves) > 1:
        axes.legend(frameon=False)
    return figure


@figure_fonts()
def plot_accuracy(path: Path | str, shares: Mapping[str, Share], *, title: str, baselines: Mapping[str, float] | None = None) -> None:
    """One bar per group with its 95 % interval; ``baselines``: what guessing reaches, as a tick across the bar."""
    figure, axes = _canvas(8.0, 1.2 + 0.34 * len(shares), title)
    names = list(shares)
    rows = range(len(names))
    values = [shares[name].value for name in names]
    below = [max(0.0, value - shares[name].interval[0]) for name, value in zip(names, values, strict=True)]
    above = [max(0.0, shares[name].interval[1] - value) for name, value in zip(names, values, strict=True)]
    axes.barh(rows, values, xerr=[below, above], color="#4878a8", error_kw={"ecolor": "#223344", "capsize": 2, "linewidth": 0.9})
    for row, name in enumerate(names):
        axes.annotate(f"{100 * values[row]:.1f} %", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        if baselines and name in baselines:
            axes.plot([baselines[name]] * 2, [row - 0.4, row + 0.4], color="#d04020", linewidth=1.4, label="guessing" if row == 0 else None)
    axes.set_yticks(list(rows), names)
    axes.invert_yaxis()
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("share of right answers, with 95 % interval")
    axes.grid(axis="x", **_GRID)
    axes.set_axisbelow(True)
    if baselines:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.9, -0.06), fontsize=8)
    _write(figure, path)


@figure_fonts()
def plot_histogram(
    path: Path | str, values: Sequence[float], *, title: str, x_label: str, y_label: str, marks: Mapping[str, float] | None = None
) -> None:
    """How often which size occurs, in bins of equal ratio, since sizes of texts spread over powers of ten. marks: named x."""
    figure, axes = _canvas(8.0, 4.0, title)
    low, high = max(1.0, min(values, default=1.0)), max(2.0, max(values, default=2.0))
    bins = [low * (high / low) ** (step / 40) for step in range(41)] if high > low else [low, low + 1.0]
    bins[-1] = max(bins[-1], high)
    axes.hist([max(value, low) for value in values], bins=bins, color="#4878a8", edgecolor="white", linewidth=0.4)
    axes.set_xscale("log")
    for name, place in (marks or {}).items():
        axes.axvline(place, color="#d04020", linestyle="--", linewidth=1.0)
        axes.annotate(f" {name}", (place, 0.98), xycoords=("data", "axes fraction"), va="top", fontsize=8, color="#d04020")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", **_GRID)
    axes.set_axisbelow(True)
    _write(figure, path)


@figure_fonts()
def plot_groups(path: Path | str, values: Mapping[str, Mapping[str, float]], *, title: str, label: str) -> None:
    """Bars of several series (by name) side by side for each group (by name)."""
    groups = list(next(iter(values.values())))
    figure, axes = _canvas(max(6.0, 1.2 + 0.34 * len(groups) * len(values)), 4.0, title)
    width = 0.8 / len(values)
    for number, (name, bars) in enumerate(values.items()):
        places = [place + (number - (len(values) - 1) / 2) * width for place in range(len(groups))]
        drawn = axes.bar(places, [bars[group] for group in groups], width=width, label=name, color=f"C{number}")
        axes.bar_label(drawn, fmt="%.2f", fontsize=7, padding=1)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label)
    axes.grid(axis="y", **_GRID)
    axes.set_axisbelow(True)
    if len(values) > 1:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _write(figure, path)


def smoothed(values: Sequence[float], keep: float) -> list[float]:
    """The mean of the running means from both ends: smooth, and not late."""
    forward, backward = running_mean(values, keep), running_mean(values[::-1], keep)[::-1]
    return [(left + right) / 2 for left, right in zip(forward, backward, strict=True)]


def running_mean(values: Sequence[float], keep: float) -> list[float]:
    """Exponential running mean without the bias of its start: entry n is a mean of values 0 .. n."""
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        means.append(total / weight)
    return means


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write(figure: Figure, path: Path | str) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": PICTURE_MARK.decode()})
    write_atomically(path, content.getvalue())
