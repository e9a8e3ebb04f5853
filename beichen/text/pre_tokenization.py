"""How text is cut before merging: a table of named patterns.

No merge ever crosses a cut, so a pattern decides what a piece can be. Every pattern covers every text: joined, its matches
are the text. Patterns are written for Oniguruma (which ``tokenizers`` uses) and mean the same to ``regex``.
"""

from __future__ import annotations

from beichen.errors import TokenizerError, nearest

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_NUMERALS = "零〇一二三四五六七八九十百千万亿两"
_SPACES = (r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+")

PATTERNS: dict[str, str] = {
    "gpt2": "|".join((r"'s|'t|'re|'ve|'m|'ll|'d", r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+", r"\s+(?!\S)", r"\s+")),
    "llama3": "|".join(
        (_CONTRACTIONS, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", *_SPACES),
    ),
    "qwen2": "|".join(
        (_CONTRACTIONS, r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", *_SPACES),
    ),
    # Chinese and English with a small vocabulary: digits and Chinese numerals stand alone, so that place value can be learnt; Han runs
    # are bounded, so that pieces are words rather than clauses; a script never merges with another.
    "han": "|".join(
        (
            rf"{_CONTRACTIONS}(?!\p{{L}})",  # an ending, not the beginning of a quoted word
            r"\p{N}",
            rf"[{_NUMERALS}]",
            rf"(?:(?![{_NUMERALS}])\p{{Han}}){{1,4}}",
            r" ?\p{Latin}+",
            r"[\p{Hiragana}\p{Katakana}ー]+",
            r" ?(?:(?![\p{Han}\p{Latin}\p{Hiragana}\p{Katakana}ー])[\p{L}\p{M}])+",
            r" ?[^\s\p{L}\p{M}\p{N}]+",
            *_SPACES,
        )
    ),
}


def split_pattern(name: str) -> str:
    """The pattern of that name; an unknown one is an error that lists the known."""
    if name not in PATTERNS:
        raise TokenizerError(f"no pre-tokenization pattern is called '{name}'{nearest(name, PATTERNS)}; known: {', '.join(PATTERNS)}")
    return PATTERNS[name]
