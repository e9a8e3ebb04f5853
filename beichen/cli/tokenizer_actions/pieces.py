"""What encoding and decoding share: reading what is given, and the table of pieces."""

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


def add_common_arguments(parser: argparse.ArgumentParser, values: str) -> None:
    """The folder and what is to be turned."""
    parser.add_argument("folder", type=Path, help="a folder that holds a tokenizer")
    parser.add_argument("values", nargs="*", metavar=values, help="what to turn (default: standard input)")
    add_json_option(parser)


def find_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder, or of a model's name."""
    from beichen.checkpoints.tokenizers import load_tokenizer

    return load_tokenizer(folder, reporter=make_reporter())


def show(tokenizer: Tokenizer, text: str, ids: list[int], *, summary: str, as_json: bool) -> None:
    """The pieces one a line with a summary below, or all as JSON."""
    pieces = [describe(tokenizer, token) for token in ids]
    if as_json:
        print_json({"text": text, "ids": ids, "pieces": pieces})
    else:
        print("\n".join(table(pieces)))
        print(summary)


def standard_input() -> str:
    """What was piped in, to the byte; a terminal is asked until Ctrl-D."""
    data = sys.stdin.buffer.read() if hasattr(sys.stdin, "buffer") else sys.stdin.read().encode()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"standard input is not UTF-8: byte {error.start}", remedy="convert it first") from error


def read_ids(text: str) -> list[int]:
    """Ids apart by spaces or commas, in brackets or not. Raises SettingsError for what is no whole number."""
    found = []
    for word in text.replace(",", " ").replace("[", " ").replace("]", " ").split():
        try:
            found.append(int(word))
        except ValueError as error:
            raise SettingsError(f"'{word}' is not an id", remedy="give whole numbers, by spaces or commas apart") from error
    return found


def describe(tokenizer: Tokenizer, token: int) -> dict[str, Any]:
    """One id as a record: its piece, its bytes in hexadecimal digits, their text, whether it is a control token."""
    data = tokenizer.token_bytes(token)
    control = token in tokenizer.special_ids.values()
    return {
        "id": token,
        "piece": tokenizer.piece(token),
        "bytes": data.hex(" "),
        "text": data.decode("utf-8", "replace"),
        "control": control,
    }


def table(pieces: list[dict[str, Any]]) -> list[str]:
    """Records of ``describe`` as lines for a terminal, the head first."""
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
