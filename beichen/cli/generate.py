"""A record of --input holds "prompt" (a text to continue), "messages" (a dialogue to answer, perhaps with "tools"), "input" (what a user
says: MindFormers' file), or is a line of OpenAI's batch interface. It comes back with "answer", "finish_reason" and "usage" added. Settings
that stand in a record ("temperature": 0.5) go before those of the command. With --output, a command that was killed goes on where it was.

beichen generate runs/quickstart-001 --prompt "今天" --max-new-tokens 40
beichen generate runs/quickstart-001 --input questions.jsonl --output answers.jsonl
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beichen.cli.options import add_base_option, add_compute_options, add_json_option, add_quantize_option
from beichen.cli.outputs import new_file
from beichen.cli.sampling_options import add_chat_options, add_sampling_options, check_answer_options, sampling_settings_of
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.inference.language_model import LanguageModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a checkpoint folder with a tokenizer")
    parser.add_argument("--prompt", metavar="TEXT", help="continue this text")
    parser.add_argument("--input", type=Path, metavar="FILE", help="answer every record of a jsonl, json or parquet file (also .gz, .zst)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the answers go, a JSON line each (default: standard output)")
    parser.add_argument("--answer-key", default="answer", metavar="NAME", help="what the answer is called there (default %(default)s)")
    parser.add_argument("--skip-bad", action="store_true",
                        help="put bad records into OUTPUT.faults.jsonl and answer the others; default: name them and end")  # fmt: skip
    add_chat_options(parser)
    add_sampling_options(parser)
    add_compute_options(parser)
    add_base_option(parser)
    add_quantize_option(parser)
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
        from beichen.inference.answers_file import journal_of

        if not journal_of(arguments.output).exists():  # else an earlier command's answers stand there, which this one goes on with
            new_file(arguments.output)
    check_answer_options(arguments)
    from beichen.cli.generate_many import Questions, answer_file
    from beichen.data.files import expand_paths
    from beichen.inference.language_model import load
    from beichen.util.device import set_threads
    from beichen.util.memory import forget_old_shapes

    set_threads(arguments.threads)
    forget_old_shapes()
    if arguments.input is not None:
        expand_paths([arguments.input])  # a name that is wrong is told before any weights are read
    model = load(
        arguments.folder, device=arguments.device, dtype=arguments.dtype, compatibility=arguments.compatibility,
        template=arguments.template, base=arguments.base, quantize=arguments.quantize, reporter=make_reporter(),
    )  # fmt: skip
    settings = sampling_settings_of(arguments)
    if arguments.prompt is not None:
        return _one(model, arguments.prompt, settings, as_json=arguments.json)
    questions = Questions(
        arguments.input, model, settings, name=arguments.folder.resolve().name, thinking=arguments.thinking,
        answer_key=arguments.answer_key,
    )  # fmt: skip
    return answer_file(model, questions, arguments, _all_settings(model, arguments, settings))


def _all_settings(model: LanguageModel, arguments: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """What answers depend on besides their questions."""
    from beichen.checkpoints.fingerprints import folder_print

    given = {name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value for name, value in settings.items()}
    folders = {Path(arguments.folder), model.folder or Path(arguments.folder)}  # of an adapter, its base too
    return given | {
        "model": " ".join(folder_print(folder) for folder in sorted(folders) if folder.is_dir()),
        "dtype": str(model.decoder.dtype).removeprefix("torch."),
        "template": arguments.template, "thinking": arguments.thinking, "quantize": arguments.quantize,
        "compatibility": sorted(arguments.compatibility), "answer_key": arguments.answer_key,
    }  # fmt: skip


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
