"""Flags that several commands share, so that they are called and explained alike everywhere."""

from __future__ import annotations

import argparse


def add_compute_options(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--dtype``, ``--threads``, each ``None`` when not given; ``--compatibility``, a list."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, npu, mps, xpu; default: the fastest that this machine has")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="number format; default: what the device is fast at")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: one per core that this process may use")
    parser.add_argument(
        "--compatibility", metavar="NAME", action="append", default=[],
        help="compute with a fault of the original code, for weights that were trained with it; `beichen models` lists them; repeatable",
    )  # fmt: skip


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """``--json``: the result as one JSON document on standard output, nothing else there."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
