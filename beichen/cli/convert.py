"""The source's layout is told by the name of its weights file (model.safetensors: published; mindspore.safetensors: mindspore; ...);
config.json, with published keys, stands beside it in every layout. An unknown layout is answered with those of the family.

beichen convert telechat2-7b telechat2-7b-ms --to mindspore
beichen convert telechat2-7b-ms telechat2-7b-again --to published
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.terminal import make_reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="the checkpoint folder to read")
    parser.add_argument("target", type=Path, help="the folder to write; it must not exist or be empty")
    parser.add_argument(
        "--to", required=True, metavar="LAYOUT", help="published, mindspore, mindspore_qkv_concat, mindspore_gmm, mindspore_mp2, ..."
    )
    parser.add_argument("--from", dest="layout", metavar="LAYOUT", help="layout of the source (default: told by its file names)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="number format of the files (default: as they are)")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and name the folder."""
    import torch

    from beichen.checkpoints.conversion import convert_folder

    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    convert_folder(
        arguments.source, arguments.target, to=arguments.to, layout=arguments.layout, dtype=dtype, reporter=make_reporter()
    )  # fmt: skip
    print(arguments.target)
    return 0
