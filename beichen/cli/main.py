"""``beichen COMMAND ...``: finds the command, reads its arguments, turns user faults into two lines and an exit code.

A command is one file ``cli/<name>.py`` and one line in ``COMMANDS``. The file offers

    add_arguments(parser)        its flags, plain argparse
    run(arguments) -> int        does the work, prints, returns the exit code
    settings_class() -> type     optional: a frozen dataclass; the command then takes ``--config FILE`` and ``--a.b value``
                                 and finds the result in ``arguments.settings``

and imports whatever is heavy inside these functions, so that ``beichen --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from beichen import __version__
from beichen.errors import BeichenError, SettingsError, nearest

COMMANDS = {
    "quickstart": "make a small model from nothing: tokenizer, pretraining, fine-tuning, evaluation",
    "train": "pretrain, fine-tune, train adapters or on preferences, as a recipe says",
    "report": "show training runs as one page, and compare them",
    "perplexity": "measure checkpoints on a text, by length of context",
    "chat": "talk with a model",
    "generate": "continue a text",
    "serve": "answer OpenAI's clients over HTTP",
    "data": "encode text to shards; convert, preview and count dialogues",
    "tokenizer": "train, compare, extend tokenizers; show what one makes of a text or of ids",
    "inspect": "describe a checkpoint folder without loading its weights",
    "export": "write a checkpoint in another layout",
    "models": "list every published size with its parameters and licence, or show one",
    "merge": "fold an adapter into its base, and prove that the model is the same",
    "convert": "rewrite weights in another framework's layout, and back",
    "checkpoint": "verify that a checkpoint is what was written, bit for bit",
    "verify": "compare our numbers with those of the original code",
    "env": "print what a bug report needs: versions, machine, devices",
}

EXIT_USER_FAULT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(message, remedy=f"`{self.prog} --help` lists the options")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        ["usage: beichen COMMAND ...", "", "From raw text to a language model that talks.", "", "commands:", *lines, "",
         "`beichen COMMAND --help` tells more; `beichen --version` prints the version."]
    )  # fmt: skip


def _read_arguments(name: str, command: ModuleType, argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=f"beichen {name}",
        description=f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}.",
        epilog=command.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    has_settings = hasattr(command, "settings_class")
    if has_settings:
        from beichen.config import help_on_settings

        parser.add_argument("--config", metavar="FILE", action="append", default=[], help="a YAML recipe; later files win")
        parser.usage = f"beichen {name} [--config FILE] [--a.b VALUE ...]"
        if {"-h", "--help"} & set(argv):
            settings = help_on_settings(command.settings_class())
            parser.epilog = f"settings, in the recipe or as --a.b VALUE:\n{settings}\n\n{command.__doc__}"
    command.add_arguments(parser)
    arguments, rest = parser.parse_known_args(argv)
    options = [option for action in parser._actions for option in action.option_strings]
    if has_settings:
        from beichen.config import parse_settings

        flags = [option.removeprefix("--") for option in options]
        arguments.settings = parse_settings(command.settings_class(), rest, arguments.config, flags=flags)
    elif rest:
        unknown = next((word for word in rest if word.startswith("-")), rest[0])
        raise SettingsError(
            f"beichen {name}: unknown argument '{unknown}'{nearest(unknown, options)}", remedy=f"`beichen {name} --help` lists the options"
        )
    return arguments


def _dispatch(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"beichen {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        raise SettingsError(f"unknown command '{name}'{nearest(name, COMMANDS)}", remedy=f"one of: {', '.join(COMMANDS)}")
    command = import_module(f"beichen.cli.{name.replace('-', '_')}")
    code: int = command.run(_read_arguments(name, command, argv[1:]))
    return code


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """A warning of the library as one line, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code: 0 done, 2 a user's fault, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal in another encoding shows '?' for what it cannot show
            stream.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BeichenError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return EXIT_USER_FAULT
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains once more while closing
        return EXIT_BROKEN_PIPE
    except OSError as fault:  # a file that could not be read: what could not be written is a StorageError already
        if fault.filename is None:
            raise
        print(f"error: {fault.filename}: {fault.strerror}\n  remedy: check the path and its permissions", file=sys.stderr)
        return EXIT_USER_FAULT
