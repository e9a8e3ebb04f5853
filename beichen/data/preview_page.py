"""A ``Preview`` as one HTML file that needs nothing else: for a browser, a colleague, a bug report.

Every id is one box with its number on hover; colours say what is learnt. Contents are escaped: what people typed stays text here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from beichen.data.preview import Preview, PreviewPart, PreviewToken
from beichen.util.page import page

_STYLE = """
:root { --trained: #c9ecd0; --context: var(--tint); --begin: #d4572a; }
@media (prefers-color-scheme: dark) { :root { --trained: #1f5a32; --begin: #f08a5d; } }
.part { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; }
.part span { background: var(--context); border-radius: 3px; box-shadow: inset -1px 0 0 var(--paper); }
.part span.t { background: var(--trained); } .part span.w { outline: 1px dashed var(--soft); outline-offset: -1px; }
.part span.c { font: 600 .8em ui-monospace, monospace; }
.part span.b { border-left: 3px solid var(--begin); } .pad { color: var(--soft); }
.key span { padding: .1rem .4rem; border-radius: 3px; margin-right: .6rem; background: var(--context); }
.key .c { font: 600 .8em ui-monospace, monospace; } .key .t { background: var(--trained); } .key .b { border-left: 3px solid var(--begin); }
.key .w { background: var(--trained); outline: 1px dashed var(--soft); }
"""


def preview_page(preview: Preview, *, title: str) -> str:
    """The whole page."""
    return page(title, _parts(preview), style=_STYLE)


def _parts(preview: Preview) -> Iterator[str]:
    yield f"<p>{escape(preview.account)}</p>"
    yield (
        f'<p class="key"><span class="t">{preview.becomes}</span><span>context</span>'
        f'<span class="w">{preview.becomes} with another weight than 1</span>'
        '<span class="b">a document begins</span><span class="c">&lt;control token&gt;</span>· no text of its own</p>'
    )
    yield from _section("Samples", preview.samples)
    yield from _section(f"Rows of {preview.sequence_length:,} tokens, as packed for the first epoch", preview.rows)


def _section(heading: str, parts: Iterable[PreviewPart]) -> Iterator[str]:
    parts = list(parts)
    if parts:
        yield f"<h2>{escape(heading)}</h2>"
    for part in parts:
        facts = f"{len(part.tokens):,} tokens, {part.targets:,} {part.becomes}"
        faults = "".join(f' <span class="fault">⚠ {escape(fault)}</span>' for fault in part.faults)
        yield f'<h3>{escape(part.title)} <span class="soft">{facts}</span>{faults}</h3>'
        padding = f' <i class="pad">+ {part.padding:,} of padding</i>' if part.padding else ""
        boxes = (("<br>" if token.begins and number else "") + _box(token) for number, token in enumerate(part.tokens))
        yield f'<div class="part">{"".join(boxes)}{padding}</div>'


def _kinds(token: PreviewToken) -> list[tuple[str, object]]:
    return [("t", token.weight), ("w", token.weight not in (0, 1)), ("c", token.control), ("b", token.begins)]


def _box(token: PreviewToken) -> str:
    kinds = [kind for kind, applies in _kinds(token) if applies]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    counts = f" · weight {token.weight:g}" if token.weight not in (0, 1) else ""
    text = escape(token.text).replace("\n", "⏎\n") or "·"
    return f'<span{kind} title="{token.id}{counts}">{text}</span>'
