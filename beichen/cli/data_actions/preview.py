"""Green is learnt, with its weight where that is not 1; grey is context; a bar begins a dialogue. Of preferences green is scored: a chosen
answer to become likelier, a rejected one less likely. What looks wrong is marked: a sample with no target, an end token that is not
learnt, an answer that is cut. --html writes the same as one page.

beichen data preview dialogues.jsonl --model runs/quickstart-001 --samples 5 --rows 2 --html preview.html
beichen data preview preferences.json --compare pairs --model runs/quickstart-001
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

    from beichen.data.account import OnBad
    from beichen.data.preview import Preview, PreviewPart, PreviewToken
    from beichen.text.tokenizer import Tokenizer

MOST_READ = 2000  # samples, for the rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_options(parser)
    add_mask_options(parser)
    parser.add_argument("--samples", type=int, default=5, metavar="N", help="dialogues to show (default %(default)s)")
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="packed rows to show (default %(default)s)")
    parser.add_argument("--compare", choices=("pairs", "rated"), help="preference data, as DPO and IPO see it, or as KTO does")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page instead of colouring the terminal")


def run(arguments: argparse.Namespace) -> int:
    """Show; a record that cannot be used is named."""
    from beichen.data.preview_page import preview_page
    from beichen.util.files import write_atomically
    from beichen.util.quantities import counted

    if arguments.html is not None:
        drawn_file(arguments.html)
    tokenizer = named_tokenizer(arguments)
    preview = _of_preferences(arguments, tokenizer) if arguments.compare else _of_dialogues(arguments, tokenizer)
    if arguments.html is not None:
        write_atomically(arguments.html, preview_page(preview, title=f"{', '.join(arguments.files)} · {tokenizer.template}"))
        print(f"{arguments.html}: {counted(len(preview.samples), 'samples')}, {counted(len(preview.rows), 'rows')}")
        return 0
    from rich.console import Console

    console, parts = Console(highlight=False, soft_wrap=True), (*preview.samples, *preview.rows)
    console.print(preview.becomes, style=_style(1.0), end="  ")
    console.print("context", style="dim", end="  ")
    console.print("<control token>", style="bold", end="  ")
    if any(token.weight not in (0, 1) for part in parts for token in part.tokens):
        console.print("[×0.5]", style="yellow", markup=False, end=" its weight  ")
    console.print("┃", style="bold red", end=" a document begins; the line break before it is no token\n\n")
    for part in parts:
        console.print(_coloured(part), end="\n\n")
    print(preview.account, file=sys.stderr)
    return 0


def _of_dialogues(arguments: argparse.Namespace, tokenizer: Tokenizer) -> Preview:
    from beichen.data.dialogue_files import read_dialogues
    from beichen.data.preview import preview_dialogues

    settings, on_bad = dialogue_settings(arguments), _on_bad(arguments)
    dialogues = list(islice(read_dialogues(arguments.files, settings=settings, on_bad=on_bad, reporter=make_reporter()), _most(arguments)))
    return preview_dialogues(
        dialogues, tokenizer, settings, sequence_length=arguments.sequence_length, samples=arguments.samples, rows=arguments.rows
    )


def _of_preferences(arguments: argparse.Namespace, tokenizer: Tokenizer) -> Preview:
    from beichen.data.account import Account, BadInput
    from beichen.data.dialogue_files import read_preferences
    from beichen.data.preference_preview import preview_preferences

    settings, on_bad, reporter = dialogue_settings(arguments), _on_bad(arguments), make_reporter()
    preferences = islice(read_preferences(arguments.files, settings=settings, on_bad=on_bad, reporter=reporter), _most(arguments))
    return preview_preferences(
        preferences, tokenizer, settings, paired=arguments.compare == "pairs", sequence_length=arguments.sequence_length,
        samples=arguments.samples, rows=arguments.rows, bad=BadInput(on_bad, Account(item="preferences", unit="tokens"), reporter),
    )  # fmt: skip


def _on_bad(arguments: argparse.Namespace) -> OnBad:
    return "raise" if arguments.strict else "count"


def _most(arguments: argparse.Namespace) -> int:
    return int(max(arguments.samples, MOST_READ if arguments.rows else 0))


def _coloured(part: PreviewPart) -> Text:
    from rich.text import Text

    text = Text(f"{part.title}  ", style="bold")
    text.append(f"{len(part.tokens):,} tokens, {part.targets:,} {part.becomes}", style="not bold dim")
    for fault in part.faults:
        text.append(f"  ! {fault}", style="bold red")
    text.append("\n")
    for (_, weight), run in groupby(part.tokens, _RunKey()):
        for number, (control, tokens) in enumerate(groupby(run, lambda token: token.control)):
            first, *rest = tokens
            if first.begins and not number:
                text.append("┃" if first is part.tokens[0] else "\n┃", style="bold red not dim")
            text.append("".join(token.text for token in (first, *rest)), style=_style(weight, bold=control))
        if weight not in (0, 1):
            text.append(f"[×{weight:g}]", style="not bold yellow")
    if part.padding:
        text.append(f" + {part.padding:,} of padding", style="not bold dim italic")
    return text


class _RunKey:
    """A key of ``groupby`` that remembers: tokens of one weight in one dialogue are one run."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, token: PreviewToken) -> tuple[int, float]:
        self.number += token.begins
        return self.number, token.weight


def _style(weight: float, *, bold: bool = False) -> str:
    return f"{'bold' if bold else 'not bold'} {'black on green' if weight else 'dim'}"
