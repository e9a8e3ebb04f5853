"""What the regex engine of ``tokenizers`` says of single characters; run as a program it writes the table that the C++ splitter uses.

python -m tests.text.unicode_probe > beichen/text/compiled/source/unicode_classes.h
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import pre_tokenizers

from beichen.text import compiled

# One bit a class, in the order of the enumeration in characters.h.
CLASSES = (r"\p{L}", r"\p{N}", r"\p{M}", r"\s", r"\p{Han}", r"\p{Latin}", r"[\p{Hiragana}\p{Katakana}ー]")
TABLE = Path(compiled.__file__).parent / "source" / "unicode_classes.h"
LAST_ASSIGNED = 0x40000  # beyond it nothing but selectors (U+E0100) and private use

HEAD = """// Character classes as the regex engine of `tokenizers` knows them, written by tests/text/unicode_probe.py and held to the
// installed engine by a test. Each row: the first character of a range, the classes of all characters up to the next row.
#pragma once
#include <cstdint>

static const uint32_t unicode_rows[][2] = {
"""


def probe(characters: Sequence[int]) -> dict[int, int]:
    """The classes of each character, as bits. No class holds the mark between them, so a piece of one character is a member."""
    marked = "!" + "".join(f"{chr(code)}!" for code in characters)
    bits = dict.fromkeys(characters, 0)
    for place, name in enumerate(CLASSES):
        splitter = pre_tokenizers.Split(tokenizers.Regex(name), behavior="isolated")
        for piece, _ in splitter.pre_tokenize_str(marked):
            if len(piece) == 1 and piece != "!":
                bits[ord(piece)] |= 1 << place
    return bits


def table_rows() -> list[tuple[int, int]]:
    """The rows of the written table."""
    return [(int(first, 16), int(bits)) for first, bits in re.findall(r"\{(0x[0-9a-f]+), (\d+)\}", TABLE.read_text())]


def main() -> None:
    characters = [code for code in (*range(LAST_ASSIGNED), *range(0xE0000, 0xE1000)) if not 0xD800 <= code < 0xE000]
    bits = probe(characters)
    rows, before = [], None
    for code in range(0x110000):
        if bits.get(code, 0) != before:
            before = bits.get(code, 0)
            rows.append(f"{{0x{code:x}, {before}}}")
    lines = [", ".join(rows[start : start + 8]) for start in range(0, len(rows), 8)]
    print(HEAD + "\n".join(f"    {line}," for line in lines) + "\n};")


if __name__ == "__main__":
    main()
