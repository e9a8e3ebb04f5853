"""Which letters a figure can show: matplotlib's own font, and behind it a Chinese one where the system has it.

In: names that stand in a figure. Out: a setting of matplotlib, and a plain stand-in for each name with letters that no font here has, so
that no figure shows empty boxes. The caller says what each stand-in means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

_OWN = "DejaVu Sans"
_CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "Noto Sans CJK JP", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Droid Sans Fallback",
)  # fmt: skip


@cache
def families() -> tuple[str, ...]:
    """The fonts of every figure, the first that has a letter shows it."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (_OWN, *[name for name in _CHINESE if name in installed][:1])


@contextmanager
def figure_fonts() -> Iterator[None]:
    """Figures that are made inside are set in ``families()``."""
    from matplotlib import rc_context

    with rc_context({"font.family": list(families())}):
        yield


def stand_ins(names: Iterable[str], word: str) -> dict[str, str]:
    """What a figure shows for each name: the name, or ``word`` and its number, counted from 1, where no font has all its letters."""
    letters = _letters(families())
    return {name: name if letters.issuperset(map(ord, name)) else f"{word} {number}" for number, name in enumerate(names, 1)}


@cache
def _letters(fonts: tuple[str, ...]) -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset().union(*(FT2Font(findfont(name)).get_charmap() for name in fonts))
