"""The C++ splitter cuts where the regex engine of ``tokenizers`` cuts, and its table of characters is that engine's."""

import ctypes
import os
import random
import subprocess
import sys
from itertools import pairwise

import pytest
import regex
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from beichen.text import compiled
from beichen.text.pre_tokenization import PATTERNS, split_pattern
from tests.text.trained import ODD_TEXTS
from tests.text.unicode_probe import probe, table_rows

needs_compiler = pytest.mark.skipif(not compiled.status().available, reason=compiled.status().reason)

# Characters that decide between two alternatives of a pattern.
DECIDING = "一二三千万上海苹果的 ab1９,。!\n\r\t'sſSſ'rReVvELlLmMdDtTー あア한é\u0301\u0300〇〡Ⅷªº㋐⺀\u00a0\u2003\u0085\u2028"
EDGES = [
    code + step for code, _ in table_rows() for step in (-1, 0, 1) if 0 <= code + step < 0x110000 and not 0xD800 <= code + step < 0xE000
]


def cut(name: str, text: str) -> list[str]:
    data = text.encode()
    ends = (ctypes.c_int64 * max(1, len(data)))()
    number = compiled.function("text_split", "iplp>l")(compiled.PATTERN_NUMBERS[name], data, len(data), ends)
    begins = [0, *ends[:number]]
    return [data[begin:end].decode() for begin, end in pairwise(begins)]


def reference(name: str, text: str) -> list[str]:
    splitter = pre_tokenizers.Split(tokenizers.Regex(split_pattern(name)), behavior="isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def test_the_table_is_that_of_the_installed_engine():
    rows = table_rows()
    found = probe(sorted(set(EDGES)))
    wrong, place = [], 0
    for code in sorted(found):
        while place + 1 < len(rows) and rows[place + 1][0] <= code:
            place += 1
        if rows[place][1] != found[code]:
            wrong.append(f"U+{code:04X}")
    assert not wrong, "python -m tests.text.unicode_probe writes the table anew"


def test_every_pattern_has_its_number():
    assert compiled.PATTERN_NUMBERS.keys() == PATTERNS.keys()


@needs_compiler
@pytest.mark.parametrize("name", PATTERNS)
@given(text=st.one_of(st.text(), st.text(alphabet=DECIDING), st.sampled_from(ODD_TEXTS), st.text(alphabet=[chr(code) for code in EDGES])))
def test_cuts_are_those_of_the_regex(name, text):
    assert cut(name, text) == reference(name, text)


@needs_compiler
@pytest.mark.parametrize("name", PATTERNS)
def test_cuts_of_many_random_texts_are_those_of_the_regex(name):
    draw = random.Random(name)
    for _ in range(300):
        text = "".join(draw.choice(DECIDING) if draw.random() < 0.8 else chr(draw.choice(EDGES)) for _ in range(draw.randrange(60)))
        assert cut(name, text) == reference(name, text)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_reference_cuts_as_regex_does(name):
    text = "".join(ODD_TEXTS)
    assert reference(name, text) == regex.findall(split_pattern(name), text)


@needs_compiler
def test_a_system_whose_encoding_is_not_utf8_has_the_same_library():
    program = "from beichen.text import compiled; print(compiled.status().path)"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, encoding="utf-8", check=True)
    assert answer.stdout.strip() == str(compiled.status().path)
