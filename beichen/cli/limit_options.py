"""Flags of ``beichen serve`` that say what the server lets in, how long it waits, and what it writes of it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from beichen.cli.terminal import JsonReporter, make_reporter
from beichen.errors import SettingsError
from beichen.serve.limits import Limits
from beichen.util.progress import Reporter

if TYPE_CHECKING:
    from beichen.serve.logs import RequestLog

# flag, kind, what its value is called, least (None: above 0), meaning; the defaults are those of ``Limits``
_FLAGS: tuple[tuple[str, type, str, int | None, str], ...] = (
    ("max-model-len", int, "N", 2, "tokens of prompt and answer together (default: the trained length)"),
    ("max-waiting", int, "N", 1, "answers that may wait; more are refused"),
    ("max-streams-per-key", int, "N", 1, "answers of one key (without keys: of one address) that run or wait (default: any number)"),
    ("max-body-bytes", int, "N", 1, "size of a request's body"),
    ("body-seconds", float, "S", None, "for a body to arrive"),
    ("queue-seconds", float, "S", None, "for the engine to begin an answer"),
    ("request-seconds", float, "S", None, "for a whole answer"),
    ("stall-seconds", float, "S", None, "a client that takes nothing of its answer for so long is dropped"),
    ("stream-interval", float, "S", 0, "least pause between pieces of a stream, its first and last excepted; 0: every token"),
    ("shutdown-seconds", float, "S", None, "for what runs to end when the server ends"),
)


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    for flag, kind, value, _, meaning in _FLAGS:
        default = getattr(Limits, _field(flag))
        told = meaning if default is None else f"{meaning} (default %(default)s)"
        parser.add_argument(f"--{flag}", type=kind, metavar=value, default=default, help=told)
    parser.add_argument(
        "--log-format",
        choices=("text", "json", "none"),
        default="text",
        help="one line a request on stderr (default %(default)s); json: all other lines too",
    )
    parser.add_argument("--log-prompts", action="store_true", help="let these lines hold the texts of prompts")


def read_limits(arguments: argparse.Namespace) -> Limits:
    """Raises SettingsError that names the flag."""
    for flag, _, _, least, _ in _FLAGS:
        value = getattr(arguments, _field(flag))
        if value is not None and not ((value > 0 if least is None else value >= least) and value < float("inf")):
            raise SettingsError(f"--{flag} {value}: expected {'a number above 0' if least is None else f'{least} or more'}")
    return Limits(**{_field(flag): getattr(arguments, _field(flag)) for flag, *_ in _FLAGS})


def _field(flag: str) -> str:
    return flag.replace("-", "_")


def reporter_of(arguments: argparse.Namespace) -> Reporter:
    """For what the server has to say besides its requests: in the form of its log."""
    return JsonReporter(sys.stderr) if arguments.log_format == "json" else make_reporter()


def open_log(arguments: argparse.Namespace) -> RequestLog | None:
    """The log that the flags ask for, which also gets what the HTTP library has to say."""
    import logging

    from beichen.serve.logs import RequestLog, ServerLines

    if arguments.log_format == "none":
        return None

    def write(line: str) -> None:
        sys.stderr.write(line)
        sys.stderr.flush()

    log = RequestLog(write, form=arguments.log_format, prompts=arguments.log_prompts)
    for name in ("uvicorn", "beichen"):
        logging.getLogger(name).addHandler(ServerLines(log))
        logging.getLogger(name).propagate = False
    return log
