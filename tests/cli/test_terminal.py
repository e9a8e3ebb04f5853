"""Progress as bars and as lines; results as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from beichen.cli import terminal
from beichen.cli.terminal import BarReporter, JsonReporter, LineReporter, make_reporter, print_json, print_json_line


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


def test_a_log_gets_lines_now_and_then_and_at_the_end(clock):
    stream = io.StringIO()
    reporter = make_reporter(stream)
    assert isinstance(reporter, LineReporter)
    reporter.line("begin [bold]")
    reporter.warn("no compiler")
    with reporter.track("pretraining", total=4000, unit="tokens") as task:
        for step in range(1, 5):
            clock.now += 10
            task.advance(1000, loss=8.0 / step)
    assert stream.getvalue().splitlines() == [
        "begin [bold]",
        "warning: no compiler",
        "pretraining: 50 %  2,000/4,000 tokens  100 tokens/s  0:20 left  loss 4",
        "pretraining: 100 %  4,000/4,000 tokens  100 tokens/s  loss 2",
        "pretraining: 4,000 tokens in 0:40  100 tokens/s  loss 2",
    ]


def test_lines_for_programs_say_the_same(clock):
    plain, told = io.StringIO(), io.StringIO()
    for reporter in (LineReporter(plain), JsonReporter(told)):
        reporter.line('begin "天"\n[bold]')
        with reporter.track("pretraining", total=40, unit="tokens") as task:
            clock.now += 20
            task.advance(20)
        reporter.warn("no compiler")
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    words = [f"warning: {one['message']}" if one["level"] == "warning" else one["message"] for one in lines]
    assert "\n".join(words) + "\n" == plain.getvalue() and [one["level"] for one in lines].count("warning") == 1
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in lines)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(11640, "11,640"), (0.00001, "1e-05"), (2.3149, "2.315"), (-123456.7, "-123,457"), (float("nan"), "nan"), ("5", "5")],
)
def test_figures_are_read_at_a_glance(clock, value, shown):
    stream = io.StringIO()
    with LineReporter(stream).track("answering", total=2, unit="answers") as task:
        task.advance(1, figure=value)
    assert stream.getvalue().rstrip().endswith(f"figure {shown}")


def test_work_of_unknown_length_and_slow_work(clock):
    stream = io.StringIO()
    with LineReporter(stream).track("saving", total=None, unit="shard") as task:
        clock.now += 60
        task.set(2)
    assert stream.getvalue().splitlines() == [
        "saving: 2 shard  0:30 per shard",
        "saving: 2 shard in 1:00  0:30 per shard",
    ]


@pytest.mark.parametrize(
    ("unit", "total", "lines"),
    [
        ("B", 4e6, ["work: 50 %  2.00 MB/4.00 MB  100 kB/s  0:20 left", "work: 2.00 MB in 0:20  100 kB/s"]),
        ("s", 4e6, ["work: 50 %  555:33:20/1111:06:40  0:20 left", "work: 555:33:20 in 0:20"]),
        ("B", None, ["work: 2.00 MB  100 kB/s", "work: 2.00 MB in 0:20  100 kB/s"]),
    ],
)
def test_bytes_and_time_are_shown_in_their_own_way(clock, unit, total, lines):
    stream = io.StringIO()
    with LineReporter(stream).track("work", total=total, unit=unit) as task:
        clock.now += 20
        task.set(2e6)
    assert stream.getvalue().splitlines() == lines


def test_the_time_left_is_told_once_it_can_be_known(clock):
    """Answers come in bursts: the first of them says nothing; 15 seconds behind it, or a twentieth of all, is something to go by."""
    stream = io.StringIO()
    with LineReporter(stream).track("answering", total=6000, unit="answers") as task:
        for seconds, answers in ((20, 1), (15, 2), (15, 60), (15, 397)):
            clock.now += seconds
            task.advance(answers)
    with LineReporter(stream).track("answering", total=6000, unit="answers") as task:
        clock.now += 15
        task.advance(300)
    assert stream.getvalue().splitlines() == [
        "answering: 0 %  1/6,000 answers  0:20 per answer",
        "answering: 0 %  3/6,000 answers  0:12 per answer  19:26:05 left",
        "answering: 1 %  63/6,000 answers  1.26 answers/s  1:18:32 left",
        "answering: 8 %  460/6,000 answers  7.08 answers/s  13:03 left",
        "answering: 460 answers in 1:05  7.08 answers/s",
        "answering: 5 %  300/6,000 answers  20 answers/s  4:45 left",
        "answering: 300 answers in 0:15  20 answers/s",
    ]


@pytest.mark.parametrize(
    ("unit", "total", "lines"),
    [
        ("s", 120, ["work: 50 %  1:00/2:00  2:00 left", "work: 1:00, the last 0:10 in 0:20"]),
        ("steps", 120, ["work: 50 %  60/120 steps  0.50 steps/s  2:00 left", "work: 60 steps, the last 10 steps in 0:20  0.50 steps/s"]),
    ],
)
def test_of_work_that_goes_on_what_is_done_now_makes_the_speed(clock, unit, total, lines):
    stream = io.StringIO()
    with LineReporter(stream).track("work", total=total, unit=unit, begun=50) as task:
        clock.now += 20
        task.set(60)
    assert stream.getvalue().splitlines() == lines


def test_nothing_to_do_leaves_no_line(clock):
    stream = io.StringIO()
    with LineReporter(stream).track("combining counts", total=0, unit="B"):
        clock.now += 1
    with LineReporter(stream).track("saving", total=2, unit="shards"):
        clock.now += 1
    assert stream.getvalue().splitlines() == ["saving: 0 shards in 1.0 s"]


def test_one_is_no_plural(clock):
    stream = io.StringIO()
    with LineReporter(stream).track("saving", total=1, unit="shards") as task:
        clock.now += 30
        task.set(1)
    assert stream.getvalue().splitlines() == ["saving: 100 %  1/1 shard  0:30 per shard", "saving: 1 shard in 0:30  0:30 per shard"]


def test_a_fault_leaves_no_line_of_success():
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), LineReporter(stream).track("work", total=1, unit="step"):
        raise ZeroDivisionError
    assert stream.getvalue() == ""


def test_a_terminal_gets_bars_and_keeps_one_line_per_task(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen()
    reporter = make_reporter(screen)
    assert isinstance(reporter, BarReporter)
    with reporter.track("outer [x]", total=10, unit="steps") as outer:
        outer.advance(5, loss=2.5)
        with reporter.track("inner", total=None, unit="rows") as inner:
            inner.set(3)
        reporter.warn("between")
    with pytest.raises(ZeroDivisionError), reporter.track("broken", total=1, unit="step"):
        raise ZeroDivisionError
    text = screen.getvalue()
    assert "outer [x]: 5 steps in " in text and "inner: 3 rows in " in text and "between" in text and "broken:" not in text
    assert text.endswith("\x1b[?25h") or "\x1b[?25h" in text, "the cursor is shown again"


def test_json_takes_what_results_hold(capsys):
    @dataclass
    class Result:
        path: Path
        loss: float

    print_json(
        {"result": Result(Path("运行"), float("nan")), "array": np.arange(2), "number": np.float32(0.5), "set": {1}, 3: (None, True)}
    )
    out = capsys.readouterr().out
    assert "运行" in out
    assert json.loads(out) == {"result": {"path": "运行", "loss": None}, "array": [0, 1], "number": 0.5, "set": [1], "3": [None, True]}


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "gb18030", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_json_keeps_every_character_in_any_encoding(monkeypatch, encoding, terminal):
    """To files and pipes as UTF-8, to a terminal in its own encoding; half a surrogate pair is an escape everywhere."""
    value = {"天😀é": ["한국\ud800", 'a"\\n\n']}
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="\n")
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdout", stream)
    print("first")
    print_json_line(value)
    written = stream.buffer.getvalue()
    first, line, rest = written.decode(encoding if terminal else "utf-8").split("\n")
    assert (first, json.loads(line), rest) == ("first", value, "")
    assert terminal or "天😀é" in line
