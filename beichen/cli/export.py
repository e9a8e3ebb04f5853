"""Writes a checkpoint in another layout: Llama's, which stock tools read, with equal logits up to the trained length.

beichen export runs/quickstart-001 runs/quickstart-001-llama
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.terminal import make_reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="the checkpoint folder to read")
    parser.add_argument("target", type=Path, help="the folder to write; it must not exist or be empty")
    parser.add_argument("--to", choices=("llama",), default="llama", help="layout to write (default: llama)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), help="number format of the files (default: as they are)")


def run(arguments: argparse.Namespace) -> int:
    """Export, and name the folder."""
    import torch

    from beichen.checkpoints.llama_export import export_llama
    from beichen.errors import StorageError

    target: Path = arguments.target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"{target} exists and is not an empty folder", remedy="choose another target; nothing is overwritten")
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    export_llama(arguments.source, target, dtype=dtype, reporter=make_reporter())
    print(target)
    return 0
