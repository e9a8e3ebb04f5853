"""Describes a checkpoint folder (or a config.json) without loading weights: family, sizes, parameters, files.

beichen inspect runs/quickstart-001
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from beichen.cli.options import add_json_option
from beichen.cli.terminal import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a checkpoint folder, or a config.json")
    parser.add_argument("--digests", action="store_true", help="also compare every file with its noted SHA-256; exit code 1 if one differs")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    from beichen.checkpoints.digests import verify_digests
    from beichen.checkpoints.inspection import describe

    facts = describe(arguments.path)
    faults = verify_digests(arguments.path) if arguments.digests else []
    if arguments.json:
        print_json(facts | ({"digest_faults": faults} if arguments.digests else {}))
    else:
        width = max(map(len, facts))
        for key, value in facts.items():
            print(f"{key.replace('_', ' '):<{width}}  {shown(value)}")
        if arguments.digests:
            print(f"{'digests':<{width}}  {'all as written' if not faults else '; '.join(faults)}")
    return 1 if faults else 0


def shown(value: Any) -> str:
    """One fact as a person reads it."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
