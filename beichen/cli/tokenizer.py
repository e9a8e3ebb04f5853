"""What a tokenizer makes of a text, piece by piece; a text or ids that are not given are read from standard input.

beichen tokenizer encode runs/quickstart-001 "12 + 30 = 42"
beichen tokenizer decode runs/quickstart-001 271 268 41 --json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.text.tokenizer import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("encode", "decode"), help="a text to its pieces, or ids to their text")
    parser.add_argument("folder", type=Path, help="a folder that holds a tokenizer")
    parser.add_argument("values", nargs="*", metavar="TEXT|ID", help="what to encode or decode (default: standard input)")
    parser.add_argument("--allow-special", action="store_true", help="encode: let the names of control tokens act, as published code does")
    parser.add_argument("--skip-special", action="store_true", help="decode: leave control tokens out of the text")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of pieces, and the text or the ids."""
    encoding = arguments.action == "encode"
    if (encoding and arguments.skip_special) or (not encoding and arguments.allow_special):
        raise SettingsError("--allow-special goes with encode, --skip-special with decode")
    from beichen.checkpoints.hubs import find_folder
    from beichen.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(find_folder(arguments.folder, weights=False, reporter=make_reporter()))
    given = " ".join(arguments.values) if arguments.values else _standard_input()
    if encoding:
        ids = tokenizer.encode(given, allow_special=arguments.allow_special)
        text = given
    else:
        ids = _ids(given)
        text = tokenizer.decode(ids, skip_special=arguments.skip_special)
    pieces = [_piece(tokenizer, token) for token in ids]
    if arguments.json:
        print_json({"text": text, "ids": ids, "pieces": pieces})
        return 0
    print("\n".join(_table(pieces)))
    size = len(text.encode("utf-8", "replace"))
    print(f"{len(ids)} tokens, {len(text)} characters, {size} bytes" if encoding else text)
    return 0


def _standard_input() -> str:
    """What was piped in, to the byte; a terminal is asked until Ctrl-D."""
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"standard input is not UTF-8: byte {error.start}", remedy="convert it first") from error


def _ids(text: str) -> list[int]:
    found = []
    for word in text.replace(",", " ").replace("[", " ").replace("]", " ").split():
        try:
            found.append(int(word))
        except ValueError as error:
            raise SettingsError(f"'{word}' is not an id", remedy="give whole numbers, by spaces or commas apart") from error
    return found


def _piece(tokenizer: Tokenizer, token: int) -> dict[str, Any]:
    data = tokenizer.token_bytes(token)
    control = token in tokenizer.special_ids.values()
    return {
        "id": token,
        "piece": tokenizer.piece(token),
        "bytes": data.hex(" "),
        "text": data.decode("utf-8", "replace"),
        "control": control,
    }


def _table(pieces: list[dict[str, Any]]) -> list[str]:
    rows = [(str(piece["id"]), piece["piece"], piece["bytes"], "control" if piece["control"] else repr(piece["text"])) for piece in pieces]
    rows.insert(0, ("id", "piece", "bytes", "text"))
    widths = [max(_width(row[column]) for row in rows) for column in range(3)]
    return [
        f"{row[0]:>{widths[0]}}  " + "".join(row[column] + " " * (widths[column] - _width(row[column]) + 2) for column in (1, 2)) + row[3]
        for row in rows
    ]


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
