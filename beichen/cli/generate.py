"""A record of --input holds "prompt" (a text to continue) or "messages" (a dialogue to answer, perhaps
with "tools"); it comes back with "answer" added.

beichen generate runs/quickstart-001 --prompt "今天" --max-new-tokens 40
beichen generate runs/quickstart-001 --input questions.jsonl --output answers.jsonl
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_base_option, add_compute_options, add_json_option
from beichen.cli.outputs import new_file
from beichen.cli.sampling_options import add_chat_options, add_sampling_options, check_answer_options, sampling_settings_of
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import BeichenError, DataError, SettingsError

if TYPE_CHECKING:
    from beichen.data.records import Record
    from beichen.inference.api import Completion, Request
    from beichen.inference.language_model import LanguageModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a checkpoint folder with a tokenizer")
    parser.add_argument("--prompt", metavar="TEXT", help="continue this text")
    parser.add_argument("--input", type=Path, metavar="FILE", help="answer every record of a jsonl, json or parquet file (also .gz, .zst)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the answers go, a JSON line each (default: standard output)")
    add_chat_options(parser)
    add_sampling_options(parser)
    add_compute_options(parser)
    add_base_option(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    if (arguments.prompt is None) == (arguments.input is None):
        raise SettingsError("give either --prompt TEXT or --input FILE", remedy="`beichen generate --help` shows both")
    if arguments.output is not None and arguments.input is None:
        raise SettingsError("--output goes with --input", remedy="a single prompt's answer is printed")
    if arguments.prompt is not None and (arguments.template is not None or arguments.thinking is not None):
        raise SettingsError("--template and --thinking go with messages, not with --prompt", remedy="a prompt is continued as it is")
    if arguments.prompt == "":
        raise SettingsError("--prompt is empty: there is nothing to continue", remedy="give at least one letter")
    if arguments.output is not None:
        new_file(arguments.output)
    check_answer_options(arguments)
    from beichen.inference.language_model import load
    from beichen.util.device import set_threads

    set_threads(arguments.threads)
    records = [] if arguments.input is None else _read(arguments.input)
    model = load(
        arguments.folder, device=arguments.device, dtype=arguments.dtype, compatibility=arguments.compatibility,
        template=arguments.template, base=arguments.base, reporter=make_reporter(),
    )  # fmt: skip
    settings = sampling_settings_of(arguments)
    if arguments.prompt is not None:
        return _one(model, arguments.prompt, settings, as_json=arguments.json)
    return _many(model, records, settings, arguments.output, thinking=arguments.thinking, as_json=arguments.json)


def _one(model: LanguageModel, prompt: str, settings: dict[str, Any], *, as_json: bool) -> int:
    started = time.monotonic()
    if as_json:
        answer = model.generate(prompt, **settings)
        facts = {"prompt": prompt, "answer": answer.text, "finish_reason": answer.finish_reason, "tokens": len(answer.ids)}
        print_json(facts | {"seconds": time.monotonic() - started})
        return 0
    deltas = model.stream(prompt, **settings)
    print(prompt, end="", flush=True)
    for delta in deltas:
        print(delta.text, end="", flush=True)
    print()
    return 0


def _many(
    model: LanguageModel, records: list[Record], settings: dict[str, Any], output: Path | None, *, thinking: bool | None, as_json: bool
) -> int:
    from beichen.util.files import write_atomically

    started = time.monotonic()
    requests = [_request(model, record, settings, number, thinking) for number, record in enumerate(records)]
    answers = model.generator.generate(requests, reporter=make_reporter())
    lines = [_line(record, answer) for record, answer in zip(records, answers, strict=True)]
    if output is None:
        print("\n".join(lines))
        return 0
    write_atomically(output, "".join(line + "\n" for line in lines))
    seconds, tokens = time.monotonic() - started, sum(len(answer.ids) for answer in answers)
    if as_json:
        print_json({"output": output, "answers": len(answers), "tokens": tokens, "seconds": seconds})
    else:
        print(output)
    return 0


def _read(path: Path) -> list[Record]:
    from beichen.data.account import BadInput
    from beichen.data.files import expand_paths
    from beichen.data.records import read_records

    columns = ("prompt", "messages")
    records = [
        record for file in expand_paths([path]) for record in read_records(file, BadInput(), columns=columns, optional_columns=("tools",))
    ]
    if not records:
        raise DataError(f"{path}: holds no records", remedy='a line looks like {"prompt": "..."} or {"messages": [...]}')
    return records


def _request(model: LanguageModel, record: Record, settings: dict[str, Any], number: int, thinking: bool | None) -> Request:
    from beichen.inference.language_model import numbered

    own = numbered(settings, number)
    prompt, messages = record.value.get("prompt"), record.value.get("messages")
    try:
        if isinstance(prompt, str) and messages is None:
            return model.request(prompt, **own)
        if isinstance(messages, list) and prompt is None and all(isinstance(message, dict) for message in messages):
            return model.chat_request(messages, tools=record.value.get("tools") or (), thinking=thinking, **own)
    except BeichenError as fault:
        raise type(fault)(f"{record.origin}: {fault.args[0]}", remedy=fault.remedy) from fault
    found = ", ".join(map(repr, record.value)) or "nothing"
    raise DataError(f'{record.origin}: expected "prompt" (a text) or "messages" (a list of turns), one of them; found {found}')


def _line(record: Record, answer: Completion) -> str:
    return json.dumps({**record.value, "answer": answer.text, "finish_reason": answer.finish_reason}, ensure_ascii=False)
