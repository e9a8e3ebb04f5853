"""Flags that several commands share, so that they are called and explained alike everywhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from beichen.errors import SettingsError


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--dtype``, ``--threads``, each ``None`` when not given; ``--compatibility``, a list."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, npu, mps, xpu; default: the fastest that this machine has")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="number format; default: what the device is fast at")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: one per core that this process may use")
    parser.add_argument(
        "--compatibility", metavar="NAME", action="append", default=[],
        help="compute with a fault of the original code, for weights that were trained with it; `beichen models` lists them; repeatable",
    )  # fmt: skip


def add_base_option(parser: argparse.ArgumentParser) -> None:
    """``--base``, ``None`` when not given."""
    parser.add_argument("--base", metavar="DIR", help="of an adapter: where its base is, if not where it was when it was trained")


def add_quantize_option(parser: argparse.ArgumentParser) -> None:
    """``--quantize``, ``None`` when not given."""
    parser.add_argument(
        "--quantize",
        choices=("int8", "nf4"),
        help="hold the matrices of linear layers in 8 or about 4 bits a weight; answers differ a little",
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``: the result as one JSON document on standard output, nothing else there."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def read_json_option(flag: str, path: Path) -> Any:
    """The value in the file that a flag names. Raises SettingsError where there is no such file, or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"{flag} {path}: cannot be read ({fault.strerror})", remedy=f"{flag} takes the name of a JSON file") from fault
    except ValueError as fault:
        raise SettingsError(f"{flag} {path}: cannot be read as JSON ({fault})") from fault


def add_actions(parser: argparse.ArgumentParser, package: str, actions: Mapping[str, str]) -> None:
    """A command with actions, each a file of ``package`` with ``add_arguments`` and ``run``; ``actions``: what each does."""
    choices = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in actions.items():
        module = import_module(f"{package}.{name}")
        action = choices.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=module.__doc__, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_arguments(action)


def run_action(package: str, arguments: argparse.Namespace) -> int:
    """What the chosen action says."""
    code: int = import_module(f"{package}.{arguments.action}").run(arguments)
    return code
