"""Perplexity by length: the same text in windows of each length, all positions scored.

beichen perplexity runs/quickstart-001 --files novels.txt
beichen perplexity runs/long/128 runs/long/512 --files novels.jsonl --held-out 0.05 --lengths 128 256 512
beichen perplexity runs/quickstart-001 runs/adapter --files novels.jsonl --text-key body --lengths 256 --quantize nf4
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.options import add_base_option, add_compute_options, add_json_option, add_quantize_option
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from beichen.data.readers import TEXT_UNITS

    parser.add_argument("folders", type=Path, nargs="+", help="checkpoints or adapters of one tokenizer, a line of the table each")
    parser.add_argument(
        "--files", nargs="+", required=True, metavar="FILE",
        help="the text to score: jsonl, json, txt or parquet, also .gz and .zst; folders or patterns of such",
    )  # fmt: skip
    parser.add_argument("--text-key", metavar="KEY", help="the key or column that holds the text (default: text, data or content)")
    parser.add_argument("--text-unit", choices=TEXT_UNITS, default="pieces", help="how plain text is cut (default: %(default)s)")
    parser.add_argument(
        "--held-out", type=float, default=1.0, metavar="SHARE",
        help="only documents that a run with this data.held_out_fraction did not train on (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--lengths", type=int, nargs="+", metavar="TOKENS",
        help="windows to score the text in, a column each; the longest is a multiple of every other, such as 128 256 512 "
        "(default: the trained length of the first model)",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=65_536, metavar="N", help="how much of the text is scored (default: %(default)s)")
    add_base_option(parser)
    add_compute_options(parser)
    add_quantize_option(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from beichen.checkpoints.adapter_folder import is_adapter
    from beichen.checkpoints.hubs import find_folder
    from beichen.data.files import expand_paths
    from beichen.inference.language_model import load
    from beichen.train.perplexity import perplexity_by_length, read_ids
    from beichen.util.device import set_threads

    if arguments.tokens < 1:
        raise SettingsError(f"--tokens {arguments.tokens}: expected 1 or more", remedy="the default is 65536")
    expand_paths(arguments.files)  # a wrong path is said before weights are read
    set_threads(arguments.threads)
    reporter, table = make_reporter(), dict[str, dict[int, float]]()
    ids, lengths = list[int](), arguments.lengths
    for name in arguments.folders:
        folder = find_folder(name, reporter=reporter)
        model = load(
            folder, base=arguments.base if is_adapter(folder) else None, device=arguments.device, dtype=arguments.dtype,
            compatibility=arguments.compatibility, quantize=arguments.quantize, reporter=reporter,
        )  # fmt: skip
        lengths = lengths or [model.max_length]
        if arguments.tokens < max(lengths):
            raise SettingsError(
                f"--tokens {arguments.tokens}: less than one window of {max(lengths)} tokens", remedy="more --tokens, or shorter --lengths"
            )
        ids = ids or read_ids(
            arguments.files, model.tokenizer, tokens=arguments.tokens, held_out=arguments.held_out, text_key=arguments.text_key,
            text_unit=arguments.text_unit,
        )  # fmt: skip
        table[str(name)] = perplexity_by_length(model.decoder, ids, lengths, reporter=reporter)
    if arguments.json:
        print_json(table)
        return 0
    width = max(map(len, table))
    print(" " * width + "".join(f"{length:>11,}" for length in lengths))
    for shown, row in table.items():
        print(f"{shown:<{width}}" + "".join(f"{row[length]:>11.3f}" for length in lengths))
    return 0
