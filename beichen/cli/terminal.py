"""How commands show things: progress bars on a terminal, plain lines elsewhere, JSON where asked for.

Progress and remarks go to standard error, results to standard output, so that ``beichen ... --json > file`` holds results alone.
"""

from __future__ import annotations

import codecs
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from beichen.util.progress import Reporter, Task
from beichen.util.quantities import byte_count, count, duration, singular

PLAIN_SECONDS = 15.0  # between two lines of one task where no bar can be drawn
BYTES, SECONDS = "B", "s"  # units of work that are shown in their own way
FORECAST_SHARE = 0.05  # of the work that must be done before the time left is told,
FORECAST_SECONDS = 15.0  # or so long after its first piece: what runs side by side ends in bursts
_ESCAPED = "beichen.json"  # by which codecs know the rule that is registered below
IN_FULL = 10_000  # whole numbers below this are shown to the last digit


def make_reporter(stream: TextIO | None = None) -> Reporter:
    """Bars if ``stream`` (default: standard error) is a terminal, else plain lines."""
    stream = sys.stderr if stream is None else stream
    return BarReporter(stream) if stream.isatty() else LineReporter(stream)


def print_json(value: Any) -> None:
    """One JSON document on standard output; dataclasses, paths and numpy numbers are allowed, numbers that are not finite become null."""
    print_json_line(_for_json(value), indent=2)


def print_json_line(value: Any, *, indent: int | None = None) -> None:
    """``value`` as JSON on standard output, at once. Files and pipes get UTF-8 whatever the encoding of the system, as
    JSON is read; what a terminal's encoding cannot say is a JSON escape there."""
    text, stream = json.dumps(value, ensure_ascii=False, indent=indent) + "\n", sys.stdout
    if hasattr(stream, "buffer"):
        stream.flush()
        stream.buffer.write(text.encode(stream.encoding if stream.isatty() else "utf-8", errors=_ESCAPED))
    else:
        stream.write(text)
    stream.flush()


def _escape(error: UnicodeError) -> tuple[str, int]:
    """JSON's own escapes for what an encoding cannot say: outside ASCII all of JSON is inside its strings."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPED, _escape)


def _for_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {str(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_for_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return _for_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


class _Meter:
    """What both kinds of task know: how much is done, how much of it now and how fast, how long still."""

    def __init__(self, label: str, total: float | None, unit: str, begun: float) -> None:
        self.label, self.total, self.unit, self.begun = label, total, unit, begun
        self.done, self.figures = begun, ""
        self.started = time.monotonic()
        self._first: float | None = None  # when the first piece was done

    def note(self, done: float, figures: dict[str, float | str]) -> None:
        if figures:
            self.figures = "  ".join(f"{key} {_figure(value)}" for key, value in figures.items())
        self.done = done
        if self._first is None and done > self.begun:
            self._first = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def speed(self) -> float:
        return (self.done - self.begun) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> str:
        """The time left, once enough is done to tell it from."""
        if not self.total or self.done >= self.total or self.speed <= 0 or self._first is None:
            return ""
        enough = self.done - self.begun >= FORECAST_SHARE * (self.total - self.begun)
        if not enough and time.monotonic() - self._first < FORECAST_SECONDS:
            return ""
        return f"{duration((self.total - self.done) / self.speed)} left"

    @property
    def pace(self) -> str:
        """The speed, or for slow work its inverse; time has none."""
        if self.unit == SECONDS:
            return ""
        return f"{self._amount(self.speed)}/s" if self.speed >= 0.1 else f"{duration(1 / self.speed)} per {singular(self.unit)}"

    def _amount(self, number: float) -> str:
        """'1.20 M tokens', '1 token', '1.77 MB', '0:45'."""
        if self.unit == SECONDS:
            return duration(number)
        if self.unit == BYTES:
            return byte_count(number)
        return f"{_number(number)} {singular(self.unit) if number == 1 else self.unit}"

    def describe(self) -> str:
        """'45 %  1.20 M/2.67 M tokens  5.01 k tokens/s  0:31 left  loss 2.31'."""
        parts = []
        if self.total:
            parts.append(f"{min(100, 100 * self.done / self.total):.0f} %")
            done = self._amount(self.done) if self.unit in (BYTES, SECONDS) else _number(self.done)
            parts.append(f"{done}/{self._amount(self.total)}")
        else:
            parts.append(self._amount(self.done))
        if self.speed > 0:
            parts += [self.pace, self.left]
        return "  ".join(filter(None, [*parts, self.figures]))

    def summary(self) -> str:
        """The line that stays when the task has ended; none of one that had nothing to do."""
        if not self.done and not self.total:
            return ""
        now = f"{self._amount(self.done)}, the last {self._amount(self.done - self.begun)}" if self.begun else self._amount(self.done)
        parts = [f"{now} in {duration(self.seconds)}"]
        if self.speed > 0 and self.seconds >= 1:
            parts.append(self.pace)
        return f"{self.label}: " + "  ".join(filter(None, [*parts, self.figures]))


def _number(number: float) -> str:
    """'6,000', '12.3 k'."""
    return f"{number:,.0f}" if number < IN_FULL and float(number).is_integer() else count(number)


def _figure(value: float | str) -> str:
    """'2.31', '1e-05', '11,640': four digits, of large numbers all that stand before the point."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


class LineReporter:
    """For logs and pipes: a line when a task ends, and one every ``PLAIN_SECONDS`` while it runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def warn(self, text: str) -> None:
        self.line(f"warning: {text}")

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        meter = _Meter(label, total, unit, begun)
        yield _LineTask(meter, self)
        if summary := meter.summary():
            self.line(summary)


class JsonReporter(LineReporter):
    """The same lines as objects with time, level and message, for whoever reads logs by program."""

    def line(self, text: str) -> None:
        self._tell("info", text)

    def warn(self, text: str) -> None:
        self._tell("warning", text)

    def _tell(self, level: str, text: str) -> None:
        told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "message": text}
        super().line(json.dumps(told, ensure_ascii=False))


class _LineTask:
    def __init__(self, meter: _Meter, reporter: LineReporter) -> None:
        self._meter, self._reporter, self._said = meter, reporter, meter.started

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        self.set(self._meter.done + amount, **figures)

    def set(self, done: float, **figures: float | str) -> None:
        self._meter.note(done, figures)
        if time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self._reporter.line(f"{self._meter.label}: {self._meter.describe()}")


class BarReporter:
    """For terminals: one bar per running task at the foot of the screen, a finished task leaves one line above."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=stream, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._running = 0

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    @contextmanager
    def track(self, label: str, *, total: float | None, unit: str, begun: float = 0.0) -> Iterator[Task]:
        meter = _Meter(label, total, unit, begun)
        bar = self._bars.add_task(label, total=total, text=meter.describe())
        self._bars.update(bar, completed=begun)
        if self._running == 0:
            self._bars.start()
        self._running += 1
        try:
            yield _BarTask(meter, self._bars, bar)
            if summary := meter.summary():
                self.line(summary)
        finally:
            self._running -= 1
            self._bars.remove_task(bar)
            if self._running == 0:
                self._bars.stop()


class _BarTask:
    def __init__(self, meter: _Meter, bars: Any, bar: Any) -> None:
        self._meter, self._bars, self._bar, self._drawn = meter, bars, bar, 0.0

    def advance(self, amount: float = 1.0, **figures: float | str) -> None:
        self.set(self._meter.done + amount, **figures)

    def set(self, done: float, **figures: float | str) -> None:
        self._meter.note(done, figures)
        now = time.monotonic()
        if now - self._drawn >= 0.1 or done == self._meter.total:  # a tight loop must not spend its time on drawing
            self._drawn = now
            self._bars.update(self._bar, completed=done, text=self._meter.describe())
