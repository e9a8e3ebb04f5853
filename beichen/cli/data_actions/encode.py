"""Reads .jsonl, .json, .txt, .parquet (also .gz, .zst), cleans where asked to, drops duplicates and benchmark items where asked to, and
writes shards of ids with a ledger: what was read = what was written + what was dropped, by reason. Started again after a kill, it goes on.

Cleaning steps: html control t2s nfkc mojibake length=20:1000000 language=zh,en:0.6 lines=0.5 repetition=10 mask. Sources files:
{"path": weight} as TeleChat's, or {"path": {"weight": 0.5, "reader": "baike", "text_key": "body", "clean": ["nfkc"]}}.

beichen data encode --input corpus/*.jsonl --tokenizer runs/quickstart-001 --out encoded
beichen data encode --sources sources.json --tokenizer tok --out encoded --clean control repetition mask --duplicates near --grades
beichen data encode --input skypile/*.jsonl --reader skypile --tokenizer tok --out encoded --part 2/8
"""

from __future__ import annotations

import argparse
from pathlib import Path

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from beichen.data.minhash import LEVELS
    from beichen.data.readers import READERS, TEXT_UNITS

    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--input", nargs="+", metavar="FILE", help="files, folders, patterns: one source each, all of weight 1")
    given.add_argument("--sources", type=Path, metavar="FILE", help="a JSON file of sources and weights (epochs: 2.0 twice, 0.5 a half)")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="a folder that holds a tokenizer")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where shards go; train takes the folder as data.encoded")
    parser.add_argument("--reader", choices=tuple(READERS), default="text", help="what kind of records these are (default %(default)s)")
    parser.add_argument("--text-key", metavar="KEY", help="the key or column that holds the text")
    parser.add_argument("--text-unit", choices=TEXT_UNITS, help="how plain text is cut into documents (default: as the reader wants)")
    parser.add_argument("--encoding", metavar="NAME", help="of text that is not UTF-8, such as gb18030")
    parser.add_argument("--clean", nargs="+", default=[], metavar="STEP", help="cleaning steps, see below (default: none)")
    parser.add_argument(
        "--duplicates", choices=LEVELS, default="none",
        help="drop documents equal to the byte (exact), but for white space (spaces), in letters and digits (letters), or alike (near)",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, default=0.8, help="near: share of common 5-grams (default %(default)s)")
    parser.add_argument("--benchmarks", nargs="+", default=[], metavar="FILE", help="drop documents with 13 words or characters of these")
    parser.add_argument("--grades", action="store_true", help="write quality and difficulty (0 to 100) of each document")
    parser.add_argument("--held-out", type=float, default=0.05, metavar="SHARE", help="documents only evaluated (default %(default)s)")
    parser.add_argument("--shard-tokens", type=int, metavar="N", help="tokens of a shard (default 134,217,728)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="this machine's part, such as 2/8; duplicates: within it alone")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core, once there is work for some seconds)")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad record")
    parser.add_argument("--bad-share", type=float, default=0.01, metavar="SHARE", help="more bad records fail (default %(default)s)")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Encode, print the ledger."""
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.data.encode_settings import EncodeSettings
    from beichen.data.encoding_job import encode_sources
    from beichen.data.source_list import read_source_file, sources_of_paths
    from beichen.data.store import SHARD_TOKENS

    reporter = make_reporter()
    settings = EncodeSettings(
        duplicates=arguments.duplicates, threshold=arguments.threshold, benchmarks=tuple(arguments.benchmarks), grades=arguments.grades,
        held_out_fraction=arguments.held_out, shard_tokens=arguments.shard_tokens or SHARD_TOKENS, part=_part(arguments.part),
    )  # fmt: skip
    options = {
        "reader": arguments.reader, "text_key": arguments.text_key, "text_unit": arguments.text_unit, "encoding": arguments.encoding,
        "clean": tuple(arguments.clean),
    }  # fmt: skip
    sources = sources_of_paths(arguments.input, options) if arguments.input else read_source_file(arguments.sources, options)
    tokenizer = load_tokenizer(arguments.tokenizer, reporter=reporter)
    ledger = encode_sources(
        sources, tokenizer, arguments.out, settings=settings, strict=arguments.strict, bad_share=arguments.bad_share,
        workers=arguments.workers, reporter=reporter,
    )  # fmt: skip
    if arguments.json:
        print_json({"out": arguments.out, "ledger": ledger.as_dict()})
    else:
        print("\n".join(ledger.as_table()))
    return 0


def _part(written: str) -> tuple[int, int]:
    number, slash, count = written.partition("/")
    if not (slash and number.isdigit() and count.isdigit()):
        raise SettingsError(f"--part {written}: expected i/n, such as 2/8")
    return int(number), int(count)
