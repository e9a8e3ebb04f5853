"""Numbers for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.util.quantities import byte_count, count, counted, duration, parse_bytes, singular


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (3.24, "3.2 s"), (10, "0:10"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03"), (360000, "100:00:00")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.5, "0.50"), (12, "12"), (950, "950"), (999.7, "1.00 k"), (1234, "1.23 k"), (12345, "12.3 k"), (99951, "100 k"),
     (123456, "123 k"), (999_999, "1.00 M"), (-1234, "-1.23 k"), (5e15, "5000 T")],
)  # fmt: skip
def test_counts(number, text):
    assert count(number) == text


def test_bytes():
    assert byte_count(950) == "950 B" and byte_count(25_276_502_016) == "25.3 GB"


@given(st.floats(1, 1e14))
def test_a_count_is_short_and_near(number):
    text = count(number)
    value, _, unit = text.partition(" ")
    assert len(value) <= 4
    assert abs(float(value) * 1000.0 ** ["", "k", "M", "G", "T"].index(unit) / number - 1) <= 0.006


@pytest.mark.parametrize(
    ("text", "value"), [("512MiB", 512 << 20), ("2 GB", 2 * 10**9), ("1000", 1000), ("1.5KiB", 1536), ("3k", 3000), ("2GiB", 2 << 30)]
)
def test_amounts_of_memory_are_read(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "much", "-1", "2 XB", "GiB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_bytes(text)


def test_one_of_many():
    units = {
        "tokens": "token",
        "batches": "batch",
        "passes": "pass",
        "dialogues": "dialogue",
        "shards": "shard",
        "shard": "shard",
        "B": "B",
    }
    assert {unit: singular(unit) for unit in units} == units
    assert [counted(number, "faults") for number in (0, 1, 12_000)] == ["0 faults", "1 fault", "12,000 faults"]
