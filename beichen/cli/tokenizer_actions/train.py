"""Reads .jsonl, .json, .txt and .parquet, also .gz and .zst, as a stream. The same texts give the same files, whatever the order, the
workers and the memory, as long as the distinct words fit; where they do not, the rare ones are sampled, and it says so. Started again
after a kill with the same arguments, it goes on. The folder loads in tokenizers, transformers and, by `beichen.text.interchange`, tiktoken.

beichen tokenizer train --input corpus/*.jsonl.zst --vocab-size 32000 --out tokenizer --memory 512MiB
beichen tokenizer train --input corpus --vocab-size 64000 --out tokenizer --pattern llama3 --special "<s>" "</s>" --end "</s>"
beichen tokenizer train --input corpus --vocab-size 32000 --out tokenizer --normalize t2s nfkc --reserved 64
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.options import add_json_option
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.data.account import Account
    from beichen.text.byte_pair_training import TextSource, Trained, TrainingSettings
    from beichen.util.progress import Reporter

RECORD_FILE = "training.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from beichen.text.normalization import STEPS
    from beichen.text.pre_tokenization import PATTERNS

    parser.add_argument("--input", nargs="+", required=True, metavar="FILE", help="files, folders, patterns")
    parser.add_argument("--vocab-size", type=int, required=True, metavar="N", help="ids, control tokens and the 256 bytes included")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the tokenizer goes; no finished one is replaced")
    parser.add_argument("--pattern", choices=tuple(PATTERNS), default="han", help="how text is cut before merging (default %(default)s)")
    parser.add_argument("--memory", default="2GiB", metavar="SIZE", help="such as 512MiB (default %(default)s)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    parser.add_argument("--normalize", nargs="+", default=[], choices=STEPS, metavar="STEP", help=f"rewrite text: {', '.join(STEPS)}")
    parser.add_argument("--special", nargs="+", metavar="NAME", help="control tokens in order (default: TeleChat2's)")
    parser.add_argument("--special-last", action="store_true", help="put control tokens behind the pieces, not before them")
    parser.add_argument("--special-id", nargs="+", default=[], metavar="NAME=ID", help="fix the ids of some control tokens")
    parser.add_argument("--reserved", type=int, default=0, metavar="N", help="control tokens without a meaning yet (default %(default)s)")
    parser.add_argument("--template", metavar="NAME", help="chat format, or none (default: telechat2, or none with --special)")
    for role, text in (("start", "begins a text"), ("end", "ends a document"), ("pad", "fills rows"), ("unknown", "stands for nothing")):
        parser.add_argument(f"--{role}", metavar="NAME", help=f"the control token that {text}")
    parser.add_argument("--sample-below", type=int, default=1, metavar="N", help="sample words seen fewer times (default: only if needed)")
    parser.add_argument("--text-key", metavar="KEY", help="the key or column that holds the text")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad records out, counted, instead of stopping at the first")
    parser.add_argument("--work", type=Path, metavar="DIR", help="what is done so far (default: DIR.training, removed at the end)")
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, write the folder, print the account."""
    import shutil

    from beichen.data.account import Account
    from beichen.text.byte_pair_training import train
    from beichen.util.files import prepare_folder, write_atomically

    settings = _settings(arguments)
    reporter = make_reporter()
    out: Path = arguments.out
    work = arguments.work or out.with_name(out.name + ".training")
    _check_unfinished(out, work)
    prepare_folder(out)
    account = Account()
    sources = text_sources(arguments.input, account, reporter, text_key=arguments.text_key, skip_bad=arguments.skip_bad)
    trained = train(settings, sources, work, reporter=reporter)
    trained.tokenizer.save(out)
    write_atomically(out / RECORD_FILE, _record(trained))
    if arguments.work is None:
        shutil.rmtree(work)
    if arguments.json:
        print_json({"out": out, "record": trained.record, "seconds": trained.seconds, "dropped": account.as_dict()})
    else:
        print("\n".join(_lines(trained, out)))
        for reason, tally in sorted(account.dropped.items()):
            print(f"dropped: {tally.items:,} records ({reason})")
    return 0


def _check_unfinished(out: Path, work: Path) -> None:
    """A folder with a tokenizer is left alone, unless it is this training's own, cut short while it was written."""
    from beichen.text.vocabulary_folder import holds_tokenizer

    if (out / RECORD_FILE).exists() or (holds_tokenizer(out) and not work.exists()):
        raise SettingsError(f"{out} holds a tokenizer already, and nothing is overwritten", remedy="choose another --out")


def text_sources(
    input_: list[str], account: Account, reporter: Reporter, *, text_key: str | None, skip_bad: bool = False
) -> list[TextSource]:
    """Files as sources of texts; ``account`` counts what is dropped where ``skip_bad`` allows it."""
    from beichen.data.files import expand_paths
    from beichen.data.sources import read_documents
    from beichen.text.byte_pair_training import TextSource

    def reader(file: Path) -> Callable[[Callable[[int], None]], Iterable[str]]:
        def read(consumed: Callable[[int], None]) -> Iterator[str]:
            documents = read_documents(
                [file], text_key=text_key, on_bad="count" if skip_bad else "raise", account=account, reporter=reporter, consumed=consumed
            )
            return (document.text for document in documents)

        return read

    sources = []
    for file in expand_paths(input_):
        status = file.stat()
        identity = [status.st_size, status.st_mtime_ns, text_key, skip_bad]
        sources.append(TextSource(str(file.resolve()), reader(file), identity, status.st_size))
    return sources


def _settings(arguments: argparse.Namespace) -> TrainingSettings:
    from beichen.text.byte_pair_training import TELECHAT2_SPECIALS, SpecialTokens, TrainingSettings
    from beichen.util.quantities import parse_bytes

    try:
        memory = parse_bytes(arguments.memory)
    except ValueError as fault:
        raise SettingsError(f"--memory: {fault}") from fault
    named = arguments.special is not None
    names = tuple(arguments.special) if named else TELECHAT2_SPECIALS
    template = arguments.template or ("none" if named else "telechat2")
    roles = {role: getattr(arguments, role) for role in ("start", "end", "pad", "unknown")}
    if not named:
        defaults = {"start": "<_start>", "end": "<_end>", "pad": "<_pad>", "unknown": "<_unk>"}
        roles = {role: name or defaults[role] for role, name in roles.items()}
    if roles["end"] is None:
        raise SettingsError("--end: which of the control tokens ends a document?", remedy=f"--end with one of: {', '.join(names)}")
    return TrainingSettings(
        vocab_size=arguments.vocab_size, pattern=arguments.pattern, memory=memory, workers=arguments.workers,
        specials=SpecialTokens(names=names, chosen=_chosen(arguments.special_id), reserved=arguments.reserved, last=arguments.special_last),
        template=None if template == "none" else template, normalization=tuple(arguments.normalize),
        sample_below=arguments.sample_below, **roles,
    )  # fmt: skip


def _chosen(words: list[str]) -> dict[str, int]:
    chosen = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not name or not number.isdecimal():
            raise SettingsError(f"--special-id: '{word}' is not NAME=ID")
        chosen[name] = int(number)
    return chosen


def _record(trained: Trained) -> str:
    import json

    return json.dumps(trained.record.as_dict(), ensure_ascii=False, indent=2) + "\n"


def _lines(trained: Trained, out: Path) -> list[str]:
    from beichen.util.quantities import byte_count, count, duration

    record = trained.record
    sampled = "every word counted" if record.sampled_below == 1 else f"words seen fewer than {record.sampled_below} times were sampled"
    stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in trained.seconds.items())
    size = f"{count(record.distinct_words)} distinct words of {byte_count(record.word_bytes)}"
    return [
        f"{out}: {record.vocab_size} ids, {record.merges} merges, pattern {record.pattern}",
        f"from {count(record.texts)} texts of {byte_count(record.text_bytes)}: {size}; {sampled}",
        stages,
    ]
