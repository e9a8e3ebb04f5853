"""python -m bench [train] [table] [decode]: the speed figures beside transformers (all three by default, under ten minutes);
python -m bench experts: a training step with experts beside a python loop over them (two minutes);
python -m bench determinism: a training step with and without torch's deterministic algorithms (a minute);
python -m bench packing: efficiency of packing, cost of isolated attention, rendering of dialogues (a minute);
python -m bench encoding: text to ids on disk, speed and memory, beside datasets, tiktoken and TeleChat-52B's route (minutes);
python -m bench tokenizers [--megabytes 10 40]: training tokenizers beside tokenizers, rustbpe, sentencepiece (ten minutes);
python -m bench encoders: text to ids in memory beside tiktoken and tokenizers (two minutes);
python -m bench sft | lora | dpo [--compiled]: fine-tuning, adapters, preferences beside trl, peft, transformers (make bench-peers first);
python -m bench serving: answering beside transformers, vLLM and llama.cpp (make bench-serving-peers first; some minutes);
python -m bench memory: peaks of loading and saving a model of 1 GB (minutes);
python -m bench server: what the server costs beside its engine, first tokens behind shared beginnings, start-up, memory (minutes);
python -m bench variants: decoding steps with weights in codes, with adapters, beside a busy core (minutes);
python -m bench estimate: the memory that a dry run foresees beside the peak of training (minutes);
python -m bench race FILE... [-- --optimizer.momentum 0.9]: the learning race.

Records go to bench/results.jsonl, the page to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beichen.errors import BeichenError
from bench import records, report, verdicts
from bench.tokenizer_verdicts import SIZES

SPEED_PARTS = ("train", "table", "decode")
TUNED_PARTS = ("sft", "lora", "dpo")
PARTS = (
    *SPEED_PARTS,
    "experts",
    "determinism",
    "packing",
    "encoding",
    "tokenizers",
    "encoders",
    *TUNED_PARTS,
    "serving",
    "server",
    "variants",
    "memory",
    "estimate",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, store it, print it."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; or: race FILE...")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of every contender (default %(default)s)")
    parser.add_argument("--compiled", action="store_true", help="transformers also, the peers of fine-tuning only under torch.compile")
    parser.add_argument("--threads", type=int, help="threads of torch (default: the cores)")
    parser.add_argument("--minutes", type=float, default=10.0, help="race: minutes of training (default %(default)s)")
    parser.add_argument("--out", help="race: folder of the run (default runs/race-<date>)")
    parser.add_argument("--megabytes", type=int, nargs="+", choices=SIZES, default=SIZES, help="tokenizers: sizes of text (default: all)")
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
    from bench import (
        decoding,
        determinism,
        encoding,
        experts_step,
        finetune,
        memory,
        memory_estimate,
        packing,
        server,
        serving,
        step_variants,
        time_table,
        tokenizer_costs,
        training_step,
    )

    set_threads(options.threads)
    keep_freed_memory()  # as training does; the contenders share the process
    torch.manual_seed(0)
    run, parts = records.begin_run(), options.parts or SPEED_PARTS
    found: list[records.BenchResult] = []
    if "train" in parts:
        print("training steps", file=sys.stderr, flush=True)
        found += training_step.measure(run, rounds=options.rounds, compiled=options.compiled)
    if "table" in parts:
        print("time by operation", file=sys.stderr, flush=True)
        found += time_table.measure(run, records.FOLDER / verdicts.PICTURE)
    if "decode" in parts:
        print("decoding", file=sys.stderr, flush=True)
        found += decoding.measure(run, rounds=options.rounds, compiled=options.compiled)
    if "packing" in parts:
        print("packing", file=sys.stderr, flush=True)
        found += packing.measure(run, rounds=options.rounds)
    if "encoding" in parts:
        print("text to ids", file=sys.stderr, flush=True)
        found += encoding.measure(run, rounds=options.rounds)
    if "tokenizers" in parts:
        found += tokenizer_costs.measure_training(run, rounds=options.rounds, sizes=options.megabytes)
    if "encoders" in parts:
        found += tokenizer_costs.measure_encoding(run, rounds=options.rounds)
    if "experts" in parts:
        print("steps with experts", file=sys.stderr, flush=True)
        found += experts_step.measure(run, rounds=options.rounds)
    if "determinism" in parts:
        print("steps with and without deterministic algorithms", file=sys.stderr, flush=True)
        found += determinism.measure(run, rounds=options.rounds)
    if kinds := [kind for kind in finetune.SECTIONS if kind in parts]:
        found += finetune.measure(run, kinds, rounds=options.rounds, compiled=options.compiled)
    if "serving" in parts:
        print("answering", file=sys.stderr, flush=True)
        found += serving.measure(run, rounds=options.rounds)
    if "memory" in parts:
        print("loading and saving", file=sys.stderr, flush=True)
        found += memory.measure(run, rounds=options.rounds)
    if "server" in parts:
        print("server beside engine", file=sys.stderr, flush=True)
        found += server.measure(run, rounds=options.rounds)
    if "variants" in parts:
        print("variants of a decoding step", file=sys.stderr, flush=True)
        found += step_variants.measure(run, rounds=options.rounds)
    if "estimate" in parts:
        print("memory foreseen and reached", file=sys.stderr, flush=True)
        found += memory_estimate.measure(run)
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
