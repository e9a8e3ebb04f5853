"""Each file of --input is a domain, called by its name, or as NAME=FILE says; of each, the first --megabytes are read. Tokenizers are
folders, or NAME=FOLDER. Coverage is the share of characters that no boundary between tokens cuts; used, the ids that occurred.

beichen tokenizer report tokenizer theirs=other/tokenizer --input zh=novels.jsonl code=code.jsonl.zst --plot report.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_json_option
from beichen.cli.outputs import drawn_file
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.text.compression import Compression

COLUMNS = ("domain", "tokenizer", "ids", "bytes/token", "chars/token", "coverage", "used", "tokens")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tokenizers", nargs="+", metavar="[NAME=]FOLDER", help="folders that hold tokenizers")
    parser.add_argument("--input", nargs="+", required=True, metavar="[NAME=]FILE", help="texts, one domain each")
    parser.add_argument("--megabytes", type=float, default=2.0, metavar="N", help="of text read of each domain (default %(default)s)")
    parser.add_argument("--text-key", metavar="KEY", help="the key or column that holds the text")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a bar chart of bytes per token as PNG")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, draw."""
    from beichen.checkpoints.tokenizers import load_tokenizer
    from beichen.text.compression import measure_compression

    if arguments.plot is not None:
        drawn_file(arguments.plot)
    reporter = make_reporter()
    folders, domains = _named(arguments.tokenizers), _named(arguments.input)
    tokenizers = {name: load_tokenizer(folder, reporter=reporter) for name, folder in folders.items()}
    found: dict[str, dict[str, Compression]] = {}
    with reporter.track("encoding", total=float(len(domains) * len(tokenizers)), unit="files") as task:
        for domain, path in domains.items():
            texts = list(_texts(path, arguments.text_key, int(arguments.megabytes * 1e6)))
            found[domain] = {}
            for name, tokenizer in tokenizers.items():
                found[domain][name] = measure_compression(tokenizer, texts)
                task.advance()
    if arguments.plot is not None:
        reporter.line(f"{arguments.plot}: the bar chart")
        for label, name in _draw(arguments.plot, found).items():
            reporter.line(f"  {label}: {name} (no font here has all its letters)")
    rows = [
        _row(domain, name, tokenizers[name].vocab_size, figures) for domain, measured in found.items() for name, figures in measured.items()
    ]
    if arguments.json:
        print_json({"domains": rows})
    else:
        print("\n".join(_table(rows)))
    return 0


def _draw(path: Path, found: dict[str, dict[str, Compression]]) -> dict[str, str]:
    """The chart; what stands in it for names that no font can show."""
    from beichen.evaluation.fonts import stand_ins
    from beichen.evaluation.plots import plot_groups

    groups, series = stand_ins(found, "domain"), stand_ins(next(iter(found.values())), "series")
    bars = {label: {groups[domain]: measured[name].bytes_per_token for domain, measured in found.items()} for name, label in series.items()}
    plot_groups(path, bars, title="Compression by domain", label="bytes per token")
    return {label: name for name, label in (*groups.items(), *series.items()) if label != name}


def _named(words: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals:
            name, path = Path(word).name.partition(".")[0] or word, word
        if name in named:
            raise SettingsError(f"'{name}' is named twice", remedy="tell them apart: NAME=PATH")
        named[name] = path
    return named


def _texts(path: str, text_key: str | None, size: int) -> Iterator[str]:
    from beichen.data.sources import read_documents

    for document in read_documents([path], text_key=text_key):
        yield document.text
        size -= document.num_bytes
        if size <= 0:
            return


def _row(domain: str, name: str, ids: int, figures: Compression) -> dict[str, Any]:
    return {
        "domain": domain,
        "tokenizer": name,
        "ids": ids,
        "bytes_per_token": figures.bytes_per_token,
        "characters_per_token": figures.characters_per_token,
        "coverage": figures.coverage,
        "used": figures.used,
        "tokens": figures.tokens,
        "bytes": figures.bytes,
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [COLUMNS]
    for row in rows:
        coverage = "" if row["coverage"] is None else f"{100 * row['coverage']:.2f} %"
        ratios = [f"{row['bytes_per_token']:.3f}", f"{row['characters_per_token']:.3f}"]
        cells.append((row["domain"], row["tokenizer"], f"{row['ids']:,}", *ratios, coverage, f"{row['used']:,}", f"{row['tokens']:,}"))
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) if n < 2 else cell.rjust(width) for n, (cell, width) in enumerate(zip(line, widths, strict=True)))
            for line in cells]  # fmt: skip
