"""One HTML file that needs nothing else: the frame and the look that every page of ours shares, light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

PAGE_MARK = '<meta name="generator" content="Beichen">'  # by these a page or picture of ours is known, and may be drawn anew
PICTURE_MARK = b"drawn by Beichen"  # in a PNG file: its tEXt entry "Software"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --soft: #66758a; --line: #d8dee6; --fault: #b3261e; --tint: #eef1f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ef; --paper: #14181d; --soft: #93a1b3; --line: #313a45; --fault: #ff8a80; --tint: #242b33; } }
body { font: 15px/1.7 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
       color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem; font-weight: 600; }
.soft { color: var(--soft); font-weight: 400; } .fault { color: var(--fault); font-weight: 600; }
"""


def page(title: str, parts: Iterable[str], *, style: str = "") -> str:
    """The whole file. parts: HTML, already escaped; style: what this page adds to the common look."""
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{PAGE_MARK}<title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{style}</style></head><body>',
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )
