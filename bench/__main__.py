"""python -m bench [PART...]: the parts of ``bench/parts.py``, by default those beside transformers that take under ten minutes;
python -m bench race FILE... [-- --optimizer.momentum 0.9]: the learning race.

Records go to bench/results.jsonl, the page to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beichen.errors import BeichenError
from bench import records, report
from bench.parts import PARTS, USUAL
from bench.tokenizer_verdicts import SIZES


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, store it, print it."""
    told = "\n".join(f"  {name:12} {part.told}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, epilog=f"parts:\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"see below; default: {', '.join(USUAL)}; or: race FILE...")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of every contender (default %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="transformers also, the peers of fine-tuning only under torch.compile")
    parser.add_argument("--threads", type=int, help="threads of torch (default: the cores)")
    parser.add_argument("--minutes", type=float, default=10.0, help="race: minutes of training (default %(default)s)")
    parser.add_argument("--out", help="race: folder of the run (default runs/race-<date>)")
    parser.add_argument(
        "--megabytes", type=int, nargs="+", choices=SIZES, default=SIZES, dest="sizes", help="tokenizers: sizes of text (default: all)"
    )
    parser.add_argument("--discard", action="store_true", help="print only, store nothing")
    parser.add_argument("--recipe", help="race: another recipe than recipes/telechat2/race_10min.yaml")
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options, overrides = parser.parse_args(given[:end]), given[end + 1 :]  # behind --: settings of the recipe
    race = options.parts[:1] == ["race"]
    unknown = [] if race else [part for part in options.parts if part not in PARTS]
    if unknown or (overrides and not race) or (race and len(options.parts) < 2):
        parser.error(f"not understood: {' '.join(unknown or given)}; expected {', '.join(PARTS)}, or race FILE... [-- --key value]")
    try:
        found = _race(options, overrides) if race else _speed(options)
    except BeichenError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    if not options.discard:
        records.append(found)
        report.write_page(records.read())
    for section in dict.fromkeys(record.section for record in found):
        print(report.section_text(section, report.newest(found, section)), end="\n\n")
    return 0


def _speed(options: argparse.Namespace) -> list[records.BenchResult]:
    import torch

    from beichen.util.device import set_threads
    from beichen.util.memory import keep_freed_memory

    set_threads(options.threads)
    keep_freed_memory()  # as training does; the contenders share the process
    torch.manual_seed(0)
    run, asked = records.begin_run(), options.parts or USUAL
    found: list[records.BenchResult] = []
    for name, part in PARTS.items():
        if name in asked:
            print(f"{name}: {part.told}", file=sys.stderr, flush=True)
            found += part.measure(run, options)
    return found


def _race(options: argparse.Namespace, overrides: list[str]) -> list[records.BenchResult]:
    from beichen.cli.terminal import make_reporter
    from beichen.config import parse_settings
    from beichen.train.settings import TrainRecipe
    from bench import learning_race

    run = records.begin_run()
    out = options.out or f"runs/race-{run.date.replace(' ', '-').replace(':', '')}"
    recipe = Path(options.recipe) if options.recipe else learning_race.RECIPE
    words = ["--out", out, "--budget.minutes", str(options.minutes), "--data.files", *options.parts[1:], *overrides]
    return learning_race.measure(run, options.parts[1:], parse_settings(TrainRecipe, words, [recipe]), make_reporter())


if __name__ == "__main__":
    sys.exit(main())
