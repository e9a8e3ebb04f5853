"""Compares merged and unmerged logits on a probe set before anything is written; refuses a base that the adapter was not trained on.

beichen merge runs/telechat2-lora --out runs/telechat2-merged
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", type=Path, help="the folder of an adapter (LoRA, in PEFT's format)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write; it must not exist or be empty")
    parser.add_argument("--base", metavar="DIR", help="where the base is, if not where it was when the adapter was trained")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="where to compare (default: cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: one per core that this process may use")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.checkpoints.adapter_loading import check_is_adapter
    from beichen.checkpoints.merging import merge_adapter
    from beichen.util.device import choose_device, set_threads

    check_is_adapter(arguments.adapter)
    set_threads(arguments.threads)
    report = merge_adapter(
        arguments.adapter, arguments.out, base=arguments.base, device=choose_device(arguments.device), reporter=make_reporter()
    )  # fmt: skip
    if arguments.json:
        print_json(asdict(report) | {"out": str(report.out)})
    else:
        print(report.as_text())
    return 0
