"""Green is learnt, with its weight where that is not 1; grey is context; a bar begins a dialogue. What looks wrong is marked: a sample
with no target, an end token that is not learnt, an answer that is cut. --html writes the same as one page.

beichen data preview dialogues.jsonl --model runs/quickstart-001 --samples 5 --rows 2 --html preview.html
"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.dialogue_options import add_mask_options, add_reading_options, dialogue_settings, named_tokenizer
from beichen.cli.outputs import drawn_file
from beichen.cli.terminal import make_reporter

if TYPE_CHECKING:
    from rich.text import Text

    from beichen.data.preview import PreviewPart, PreviewToken

MOST_DIALOGUES = 2000  # that are read for the rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_options(parser)
    add_mask_options(parser)
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="dialogues to show (default %(default)s)")
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="packed rows to show (default %(default)s)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page instead of colouring the terminal")


def run(arguments: argparse.Namespace) -> int:
    """Show; a record that cannot be used is named."""
    from beichen.data.dialogue_files import read_dialogues
    from beichen.data.preview import preview_dialogues
    from beichen.data.preview_page import preview_page
    from beichen.util.files import write_atomically
    from beichen.util.quantities import counted

    if arguments.html is not None:
        drawn_file(arguments.html)
    settings, tokenizer = dialogue_settings(arguments), named_tokenizer(arguments)
    dialogues = read_dialogues(
        arguments.files, settings=settings, on_bad="raise" if arguments.strict else "count", reporter=make_reporter()
    )  # fmt: skip
    read = list(islice(dialogues, max(arguments.samples, MOST_DIALOGUES if arguments.rows else 0)))
    preview = preview_dialogues(
        read, tokenizer, settings, sequence_length=arguments.sequence_length, samples=arguments.samples, rows=arguments.rows
    )
    if arguments.html is not None:
        write_atomically(arguments.html, preview_page(preview, title=f"{', '.join(arguments.files)} · {tokenizer.template}"))
        print(f"{arguments.html}: {counted(len(preview.samples), 'samples')}, {counted(len(preview.rows), 'rows')}")
        return 0
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print("learnt", style=_style(1.0), end="  ")
    console.print("context", style="dim", end="  ")
    console.print("<control token>", style="bold", end="  ")
    console.print("┃", style="bold red", end=" a dialogue begins\n\n")
    for part in (*preview.samples, *preview.rows):
        console.print(_coloured(part), end="\n\n")
    print(preview.account, file=sys.stderr)
    return 0


def _coloured(part: PreviewPart) -> Text:
    from rich.text import Text

    text = Text(f"{part.title}  ", style="bold")
    text.append(f"{len(part.tokens):,} tokens, {part.targets:,} learnt", style="not bold dim")
    for fault in part.faults:
        text.append(f"  ! {fault}", style="bold red")
    text.append("\n")
    for (_, weight), run in groupby(part.tokens, _run_key()):
        for number, (control, tokens) in enumerate(groupby(run, lambda token: token.control)):
            first, *rest = tokens
            if first.begins and not number:
                text.append("┃", style="bold red not dim")
            text.append("".join(token.text for token in (first, *rest)), style=_style(weight, bold=control))
        if weight not in (0, 1):
            text.append(f"[×{weight:g}]", style="not bold yellow")
    if part.padding:
        text.append(f" + {part.padding:,} of padding", style="not bold dim italic")
    return text


class _run_key:  # noqa: N801  a key function that remembers
    """Tokens of one weight in one dialogue are one run."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, token: PreviewToken) -> tuple[int, float]:
        self.number += token.begins
        return self.number, token.weight


def _style(weight: float, *, bold: bool = False) -> str:
    return f"{'bold' if bold else 'not bold'} {'black on green' if weight else 'dim'}"
