from unicodedata import ucd_3_2_0

import pytest
import regex
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from beichen.errors import TokenizerError
from beichen.text.pre_tokenization import PATTERNS, split_pattern
from tests.text.trained import ODD_TEXTS


def known_for_long(text: str) -> str:
    """Without characters added to Unicode lately: the two regex engines have tables of different years."""
    return "".join(character for character in text if ucd_3_2_0.category(character) != "Cn")


ALPHABET = st.one_of(
    st.text().map(known_for_long), st.text(alphabet="一二三千万上海苹果的 ab1９,。!\n\r\t'sー あア한é\u0301"), st.sampled_from(ODD_TEXTS)
)


def cut(name: str, text: str) -> list[str]:
    splitter = pre_tokenizers.Split(tokenizers.Regex(split_pattern(name)), behavior="isolated")
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", PATTERNS)
@given(text=ALPHABET)
def test_cuts_cover_the_text_and_are_what_regex_says(name, text):
    pieces = cut(name, text)
    assert "".join(pieces) == text
    assert pieces == regex.findall(split_pattern(name), text)


@given(text=ALPHABET)
def test_digits_and_chinese_numerals_stand_alone(text):
    for piece in cut("han", text):
        assert len(piece) == 1 or not regex.search(r"[\p{N}零一二三四五六七八九十百千万亿两]", piece)


@given(text=ALPHABET)
def test_han_pieces_are_short_and_scripts_do_not_mix(text):
    scripts = [r"\p{Han}", r"\p{Latin}", r"\p{Hangul}", r"\p{Arabic}"]
    for piece in cut("han", text):
        assert len(piece) <= 4 or not regex.search(r"\p{Han}", piece)
        if not regex.search(r"[^\s\p{L}]", piece):
            assert sum(bool(regex.search(script, piece)) for script in scripts) <= 1


def test_an_ending_is_cut_off_and_a_quoted_word_is_not_cut():
    assert cut("han", "it's 'stop'") == ["it", "'s", " '", "stop", "'"]


def test_unknown_pattern_names_the_nearest():
    with pytest.raises(TokenizerError, match="did you mean 'qwen2'"):
        split_pattern("qwen")
