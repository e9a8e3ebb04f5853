"""Perplexity by length: the same text in windows of each length, all positions scored.

beichen perplexity runs/long/128 runs/long/512 --files novels.jsonl --held-out 0.05 --lengths 128 256 512
beichen perplexity runs/quickstart-001 --files novels.jsonl --lengths 256 --quantize nf4
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.options import add_compute_options, add_json_option, add_quantize_option
from beichen.cli.terminal import make_reporter, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="checkpoints of one tokenizer, a line of the table each")
    parser.add_argument("--files", nargs="+", required=True, help="text")
    parser.add_argument(
        "--held-out", type=float, default=1.0, metavar="SHARE",
        help="only documents that a run with this data.held_out_fraction did not train on (default: all)",
    )  # fmt: skip
    parser.add_argument("--lengths", type=int, nargs="+", required=True, help="each divides the longest")
    parser.add_argument("--tokens", type=int, default=65_536, help="how much of the text is scored (default: %(default)s)")
    add_compute_options(parser)
    add_quantize_option(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.checkpoints.loading import load_checkpoint
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.train.perplexity import perplexity_by_length, read_ids
    from beichen.util.device import choose_device, choose_dtype, set_threads

    set_threads(arguments.threads)
    reporter, device = make_reporter(), choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    ids = read_ids(arguments.files, load_tokenizer(arguments.folders[0]), tokens=arguments.tokens, held_out=arguments.held_out)
    table = {}
    for folder in arguments.folders:
        checkpoint = load_checkpoint(
            folder, device=device, dtype=dtype, compatibility=arguments.compatibility, quantize=arguments.quantize, reporter=reporter
        )  # fmt: skip
        table[str(folder)] = perplexity_by_length(checkpoint.decoder, ids, arguments.lengths, reporter=reporter)
    if arguments.json:
        print_json(table)
        return 0
    width = max(map(len, table))
    print(" " * width + "".join(f"{length:>11,}" for length in arguments.lengths))
    for name, row in table.items():
        print(f"{name:<{width}}" + "".join(f"{row[length]:>11.3f}" for length in arguments.lengths))
    return 0
