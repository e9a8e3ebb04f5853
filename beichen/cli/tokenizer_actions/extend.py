"""A folder with a tokenizer alone, or a whole checkpoint: its embedding, and an untied head, then get rows for the new ids. A new row is
the mean of the rows of the pieces that spelled the token before; all other weights stay as they are, bit for bit. Control tokens take
reserved slots first (--new-ids: never), then free ids. --learn learns pieces from --input as `tokenizer train` does, behind the known ones.

beichen tokenizer extend model --out longer --control "<think>" "</think>" --multiple 64
beichen tokenizer extend model --out longer --words 人工智能 大语言模型
beichen tokenizer extend model --out longer --learn 4000 --input law/*.jsonl.zst --memory 512MiB
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.text.extension import Merge
    from beichen.text.tokenizer import Tokenizer
    from beichen.util.progress import Reporter

_SHOWN = 12  # new tokens that are listed one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a tokenizer or a checkpoint folder, or hf:org/name, ms:org/name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the result goes; empty or absent")
    parser.add_argument("--control", nargs="+", default=[], metavar="NAME", help="control tokens to add")
    parser.add_argument("--new-ids", action="store_true", help="give control tokens ids of their own, no reserved slots")
    parser.add_argument("--words", nargs="+", default=[], metavar="WORD", help="texts that become one token each")
    parser.add_argument("--learn", type=int, default=0, metavar="N", help="pieces to learn from --input")
    parser.add_argument("--input", nargs="+", default=[], metavar="FILE", help="files, folders, patterns to learn from")
    parser.add_argument("--text-key", metavar="KEY", help="the key or column that holds the text")
    parser.add_argument("--memory", default="2GiB", metavar="SIZE", help="for learning, such as 512MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads for learning (default: one per core)")
    parser.add_argument("--multiple", type=int, default=1, metavar="N", help="pad the embedding to a multiple (default %(default)s)")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Extend, and say which token has which id."""
    from beichen.checkpoints.hubs import find_folder
    from beichen.checkpoints.published_files import CONFIG
    from beichen.checkpoints.resizing import resize_checkpoint
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.text.extension import check_names, extend_tokenizer
    from beichen.util.files import prepare_folder

    if bool(arguments.learn) != bool(arguments.input):
        raise SettingsError("--learn says how many pieces, --input from what: both are needed, or neither")
    if not (arguments.control or arguments.words or arguments.learn):
        raise SettingsError("nothing to add", remedy="--control, --words, or --learn with --input")
    reporter = make_reporter()
    folder = find_folder(arguments.folder, reporter=reporter)
    old = load_tokenizer(folder)
    check_names(old, arguments.control, arguments.words)  # before anything is learnt
    merges = _learn(old, arguments, reporter) if arguments.learn else []
    extension = extend_tokenizer(
        old, control=arguments.control, words=arguments.words, merges=merges, use_reserved=not arguments.new_ids
    )  # fmt: skip
    new, rows = extension.tokenizer, None
    if (folder / CONFIG).exists():
        rows = resize_checkpoint(
            folder, arguments.out, extension, old_ids=old.vocab_size, multiple=arguments.multiple, reporter=reporter
        )  # fmt: skip
    else:
        new.save(prepare_folder(arguments.out))
    if arguments.json:
        added = {new.piece(token): token for token in extension.spelled}
        print_json({"out": arguments.out, "ids": new.vocab_size, "rows": rows, "added": added})
        return 0
    in_rows = "" if rows is None else f", {rows} rows in the embedding"
    print(f"{arguments.out}: {old.vocab_size} ids before, {new.vocab_size} now{in_rows}")
    for token, parts in list(extension.spelled.items())[:_SHOWN]:
        print(f"{token:>8}  {_shown(new, token)}  was {' + '.join(_shown(old, part) for part in parts)}")
    if len(extension.spelled) > _SHOWN:
        print(f"          and {len(extension.spelled) - _SHOWN} more")
    return 0


def _shown(tokenizer: Tokenizer, token: int) -> str:
    data = tokenizer.token_bytes(token)
    try:
        return repr(data.decode())
    except UnicodeDecodeError:  # a part of a character
        return f"[{data.hex(' ')}]"


def _learn(old: Tokenizer, arguments: argparse.Namespace, reporter: Reporter) -> list[Merge]:
    import tempfile

    from beichen.cli.tokenizer_actions.train import text_sources
    from beichen.data.account import Account
    from beichen.text.training.continuing import learn_further
    from beichen.util.quantities import parse_bytes

    try:
        memory = parse_bytes(arguments.memory)
    except ValueError as fault:
        raise SettingsError(f"--memory: {fault}") from fault
    sources = text_sources(arguments.input, Account(), reporter, text_key=arguments.text_key)
    with tempfile.TemporaryDirectory(prefix="beichen-extend-") as work:
        return learn_further(old, sources, arguments.learn, Path(work), memory=memory, workers=arguments.workers, reporter=reporter)
