"""While chatting: /help lists the commands; exit, quit or Ctrl-D ends; Ctrl-C stops an answer. Messages may also come by a pipe.

beichen chat runs/quickstart-001
beichen chat runs/quickstart-001 --message "What is 27 + 46?"
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.options import add_base_option, add_compute_options, add_json_option
from beichen.cli.outputs import new_file
from beichen.cli.sampling_options import (
    add_chat_options,
    add_sampling_options,
    check_answer_options,
    options_as_typed,
    sampling_settings_of,
)
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import BeichenError, SettingsError

if TYPE_CHECKING:
    from beichen.inference.api import Completion
    from beichen.inference.conversation import Conversation

COMMANDS = {
    "/help": "this list",
    "/reset": "forget what was said",
    "/system TEXT": "start over with this system message; without TEXT, show it",
    "/save FILE": "write the dialogue as a line of JSON",
    "cls": "forget what was said and clear the screen",
    "exit, quit": "leave (also Ctrl-D)",
}
CLEAR_SCREEN = "\033[2J\033[H"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a checkpoint folder with a tokenizer")
    parser.add_argument("--message", metavar="TEXT", help="answer this one message and end")
    parser.add_argument("--system", metavar="TEXT", help="the system message (default: the chat format's own)")
    add_chat_options(parser)
    add_sampling_options(parser)
    add_compute_options(parser)
    add_base_option(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.message is None:
        raise SettingsError("--json prints one answer, and no message was given", remedy='add --message "..."')
    if arguments.message is not None and not arguments.message.strip():
        raise SettingsError("--message is empty", remedy='--message "What is 27 + 46?"')
    check_answer_options(arguments)
    from beichen.inference.conversation import Conversation
    from beichen.inference.language_model import load
    from beichen.util.device import set_threads

    set_threads(arguments.threads)
    model = load(
        arguments.folder, device=arguments.device, dtype=arguments.dtype, compatibility=arguments.compatibility,
        template=arguments.template, base=arguments.base, reporter=make_reporter(),
    )  # fmt: skip
    conversation = Conversation(model, system=arguments.system, thinking=arguments.thinking, **sampling_settings_of(arguments))
    if arguments.message is not None:
        return _one_shot(conversation, arguments.message, as_json=arguments.json)
    return Chat(conversation, interactive=sys.stdin.isatty()).run()


def _one_shot(conversation: Conversation, message: str, *, as_json: bool) -> int:
    started = time.monotonic()
    answer = say(conversation, message, quiet=as_json)
    seconds = time.monotonic() - started
    if as_json:
        facts = {"message": message, "answer": answer.text, "finish_reason": answer.finish_reason, "tokens": len(answer.ids)}
        print_json(facts | {"seconds": seconds})
    return 0


def say(conversation: Conversation, message: str, *, quiet: bool = False) -> Completion:
    """Ask, and print the answer as it comes."""
    from beichen.inference.api import Delta, join

    def shown(deltas: Iterator[Delta]) -> Iterator[Delta]:
        for delta in deltas:
            if not quiet:
                print(delta.text, end="", flush=True)
            yield delta

    with options_as_typed():
        answer = join(shown(conversation.ask(message)))
    if not quiet:
        print()
    return answer


class Chat:
    """The loop: a line in, an answer out, until the input ends."""

    def __init__(self, conversation: Conversation, *, interactive: bool) -> None:
        self.conversation, self.interactive = conversation, interactive
        self._dropped = 0

    def run(self) -> int:
        """Talk until the user leaves."""
        if self.interactive:
            import readline  # noqa: F401  line editing and history for input()

            print(f"{self.conversation.model.family}, {self.conversation.model.max_length} tokens. /help lists the commands, exit leaves.")
        while True:
            try:
                line = input("> " if self.interactive else "")
            except EOFError:
                if self.interactive:
                    print()
                return 0
            except KeyboardInterrupt:
                print("\n(exit leaves)")
                continue
            if line.strip().lower() in ("exit", "quit", "/exit", "/quit"):
                return 0
            try:
                self._take(line.strip())
            except BeichenError as fault:
                if not self.interactive:
                    raise
                print(f"error: {fault}")

    def _take(self, line: str) -> None:
        if not line:
            return
        if line.lower() in ("cls", "/cls"):
            self.conversation.start_over(system=self.conversation.system)
            print(CLEAR_SCREEN if self.interactive else "(forgotten)", end="" if self.interactive else "\n")
        elif line.startswith("/"):
            self._command(*line.partition(" ")[::2])
        else:
            self._answer(line)

    def _answer(self, line: str) -> None:
        try:
            answer = say(self.conversation, line)
        except KeyboardInterrupt:
            print("\n(stopped)")
            return
        if answer.finish_reason == "length":
            print("(cut: the answer reached its longest length)")
        if self.conversation.dropped > self._dropped:
            print(f"(the model no longer sees the first {self.conversation.dropped} messages: the dialogue outgrew its trained length)")
        self._dropped = self.conversation.dropped

    def _command(self, name: str, rest: str) -> None:
        rest = rest.strip()
        if name == "/help":
            width = max(map(len, COMMANDS))
            print("\n".join(f"{command:<{width}}  {text}" for command, text in COMMANDS.items()))
        elif name == "/reset":
            self.conversation.start_over(system=self.conversation.system)
            print("(forgotten)")
        elif name == "/system" and rest:
            self.conversation.start_over(system=rest)
            print("(a new dialogue with this system message)")
        elif name == "/system":
            print(self.conversation.system if self.conversation.system is not None else "(the chat format's own)")
        elif name == "/save":
            self._save(rest)
        else:
            print(f"unknown command {name}; /help lists them")

    def _save(self, name: str) -> None:
        from beichen.util.files import write_atomically

        if not name:
            raise SettingsError("/save needs the name of a file", remedy="/save dialogue.jsonl")
        path = new_file(Path(name).expanduser())
        messages = [{"role": message.role, "content": message.content} for message in self.conversation.messages]
        write_atomically(path, json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        print(f"saved {len(messages)} messages in {path}")
