"""Signals as a wish: the first is noted, the second acts, and what was installed before comes back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from beichen.train.interrupt import stop_on_signals


@pytest.fixture(autouse=True)
def _python_s_own_ctrl_c() -> Iterator[None]:
    """A test run in the background starts with SIGINT ignored, as shells have it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_not_held_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_handlers_come_back_after_a_fault():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(ZeroDivisionError), stop_on_signals():
        raise ZeroDivisionError
    assert {number: signal.getsignal(number) for number in before} == before


def test_outside_the_main_thread_nothing_is_caught():
    seen = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with stop_on_signals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
