"""A small tokenizer that the tests of text share, trained on the spot from sentences made here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache

from beichen.text.byte_pair_training import TELECHAT2_SPECIALS, train_tokenizer
from beichen.text.chat_template import chat_template
from beichen.text.tokenizer import Tokenizer

SPECIALS = TELECHAT2_SPECIALS

_SUBJECTS = ("小明", "老师", "天气", "the student", "a river", "北京", "My friend")
_VERBS = ("喜欢", "看见", "等于", "reads", "is", "加上", "找到了")
_OBJECTS = ("苹果。", "三百二十五。", "a book.", "12345.", "上海的春天！", "under the tree?", "二十一\n", "print('x')\n")

# Text that has broken tokenizers elsewhere.
ODD_TEXTS = (
    "", " ", "\n", "\r\n\r\n", "\t\x00\x07", "  two  spaces  ", "é e\u0301", "👨‍👩‍👧😀🏳️‍🌈", "𠮷野家", "ﬀ Ａ１", "مرحبا", "नमस्ते",
    "한국어", "ひらがなカタカナー",
    "零〇一二三万亿", "0123456789", "don't I'LL", "\u2028\u2029\ufeff", "���", "▁Ġ", "a" * 300,
)  # fmt: skip


def sentences(count: int, seed: int = 0) -> Iterator[str]:
    """Mixed Chinese and English lines, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        yield f"{draw.choice(_SUBJECTS)}{draw.choice(_VERBS)} {draw.choice(_OBJECTS)}"


@lru_cache(maxsize=8)
def small_tokenizer(template: str = "telechat2") -> Tokenizer:
    """400 pieces and every control token that the format can use."""
    form = chat_template(template)
    if {*form.specials, *form.recognised_by} <= set(SPECIALS):
        return train_tokenizer(sentences(500), vocab_size=400, template=template)
    names = tuple(dict.fromkeys((*form.specials, *form.optional_specials, *form.recognised_by)))
    end = form.stop[0]
    return train_tokenizer(
        sentences(500), vocab_size=400, template=template, special_tokens=names, start=names[0], end=end, pad=end, unknown=end
    )
