"""examples:
beichen quickstart
beichen quickstart --corpus novels.jsonl --dialogues chats.jsonl --minutes 5
"""

from __future__ import annotations

import argparse
import math

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", help="folder of the run (new or empty); default: runs/quickstart-NNN")
    parser.add_argument(
        "--corpus", nargs="+", default=[], metavar="FILE", help="your own text: jsonl, json, txt or parquet, also .gz and .zst"
    )
    parser.add_argument(
        "--dialogues", nargs="+", default=[], metavar="FILE", help="your own dialogues, with --corpus: jsonl, json or parquet"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="training time, both stages together")
    parser.add_argument("--family", default="telechat2", metavar="NAME", help="whose architecture is trained: see `beichen models`")
    parser.add_argument("--experts", type=int, default=0, metavar="N", help="N routed experts in place of each feed-forward; default: none")
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, npu, ...; default: the fastest that this machine has")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="number format; default: the one whose matmul is faster here")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: one per core that this process may use")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.errors import SettingsError
    from beichen.quickstart.plan import BUNDLED_MINUTES
    from beichen.quickstart.run import QuickstartSettings, quickstart

    if arguments.dialogues and not arguments.corpus:
        raise SettingsError("--dialogues: comes without --corpus", remedy="give the text to pretrain on with --corpus")
    if arguments.minutes is not None and not 0 < arguments.minutes < math.inf:
        raise SettingsError(
            f"--minutes {arguments.minutes:g}: must be above 0 and finite", remedy="the default is 10.4, for the own text 3 to 30"
        )
    if arguments.experts < 0 or arguments.experts == 1:
        raise SettingsError(f"--experts {arguments.experts}: must be 0, or at least 2")
    settings = QuickstartSettings(
        out=arguments.out, corpus=tuple(arguments.corpus), dialogues=tuple(arguments.dialogues),
        minutes=BUNDLED_MINUTES if arguments.minutes is None else arguments.minutes,
        family=arguments.family, experts=arguments.experts,
        seed=arguments.seed, device=arguments.device, dtype=arguments.dtype, threads=arguments.threads,
    )  # fmt: skip
    report = quickstart(settings, make_reporter())
    if arguments.json:
        print_json(report.figures)
    else:
        print(report.text)
    return 0
