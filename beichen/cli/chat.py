"""While chatting: /help lists the commands; exit, quit or Ctrl-D ends; Ctrl-C stops an answer. Messages may also come by a pipe.

beichen chat runs/quickstart-001
beichen chat runs/quickstart-001 --message "What is 27 + 46?"
beichen chat --url http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from beichen.cli.chat_url import AnswerPrinter, connect
from beichen.cli.options import add_base_option, add_compute_options, add_json_option, add_quantize_option
from beichen.cli.outputs import new_file
from beichen.cli.sampling_options import (
    add_chat_options,
    add_sampling_options,
    check_answer_options,
    option,
    options_as_typed,
    sampling_settings_of,
)
from beichen.cli.terminal import make_reporter, print_json
from beichen.errors import BeichenError, DataError, SettingsError

if TYPE_CHECKING:
    from beichen.inference.api import Delta
    from beichen.inference.conversation import Conversation
    from beichen.inference.remote import RemoteConversation

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
    parser.add_argument("folder", type=Path, nargs="?", help="a checkpoint folder with a tokenizer")
    parser.add_argument("--url", metavar="URL", help="talk to a server of OpenAI's interface instead, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", metavar="NAME", help="of --url: which of its models (default: its first)")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="of --url: the key that it asks for, in the first line")
    parser.add_argument("--tools", type=Path, metavar="FILE", help="of --url: a JSON list of tools; you say what they answer")
    parser.add_argument("--message", metavar="TEXT", help="answer this one message and end")
    parser.add_argument("--system", metavar="TEXT", help="the system message (default: the chat format's own)")
    add_chat_options(parser)
    add_sampling_options(parser)
    add_compute_options(parser)
    add_base_option(parser)
    add_quantize_option(parser)
    add_json_option(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.message is None:
        raise SettingsError("--json prints one answer, and no message was given", remedy='add --message "..."')
    if arguments.message is not None and not arguments.message.strip():
        raise SettingsError("--message is empty", remedy='--message "What is 27 + 46?"')
    if (arguments.folder is None) == (arguments.url is None):
        raise SettingsError("give either a folder or --url URL", remedy="beichen chat runs/quickstart-001")
    check_answer_options(arguments)
    if arguments.url is not None:
        return _chat(connect(arguments), arguments)
    given = next((name for name in ("model", "api_key_file", "tools") if getattr(arguments, name) is not None), None)
    if given is not None:
        raise SettingsError(f"{option(given)} goes with --url", remedy="leave it out, or name a server by --url")
    from beichen.inference.conversation import Conversation
    from beichen.inference.language_model import load
    from beichen.util.device import set_threads

    set_threads(arguments.threads)
    model = load(
        arguments.folder, device=arguments.device, dtype=arguments.dtype, compatibility=arguments.compatibility,
        template=arguments.template, base=arguments.base, quantize=arguments.quantize, reporter=make_reporter(),
    )  # fmt: skip
    settings = sampling_settings_of(arguments)
    return _chat(Conversation(model, system=arguments.system, thinking=arguments.thinking, **settings), arguments)


def _chat(conversation: Conversation | RemoteConversation, arguments: argparse.Namespace) -> int:
    if arguments.message is not None:
        return _one_shot(conversation, arguments.message, as_json=arguments.json)
    return Chat(conversation, interactive=sys.stdin.isatty()).run()


def _one_shot(conversation: Conversation | RemoteConversation, message: str, *, as_json: bool) -> int:
    started = time.monotonic()
    deltas = list(say(conversation, message, quiet=as_json))
    seconds = time.monotonic() - started
    if as_json:
        facts = {"message": message, "answer": "".join(delta.text for delta in deltas), "finish_reason": deltas[-1].finish_reason}
        told = getattr(deltas[-1], "tokens", None)  # a server's count; its ids are not told
        tokens = sum(len(delta.ids) for delta in deltas) if told is None else told
        print_json(facts | {"tokens": tokens, "seconds": seconds})
    return 0


def say(conversation: Conversation | RemoteConversation, message: str, *, quiet: bool = False) -> list[Delta]:
    """Ask, and print the answer as it comes.  -> its pieces"""
    printer = AnswerPrinter(colored=sys.stdout.isatty())
    deltas: list[Delta] = []
    with options_as_typed():
        for delta in conversation.ask(message):
            deltas.append(delta)
            if not quiet:
                printer.show(delta)
    if not quiet:
        printer.end()
    return deltas


class Chat:
    """The loop: a line in, an answer out, until the input ends."""

    def __init__(self, conversation: Conversation | RemoteConversation, *, interactive: bool) -> None:
        self.conversation, self.interactive = conversation, interactive
        self._dropped = self._lines = 0

    def run(self) -> int:
        """Talk until the user leaves."""
        if self.interactive:
            import readline  # noqa: F401  line editing and history for input()

            print(f"{self.conversation.title} /help lists the commands, exit leaves.")
        elif isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # else a bad byte is told before its line is reached
        while True:
            try:
                line = self._read()
            except EOFError:
                if self.interactive:
                    print()
                return 0
            except KeyboardInterrupt:
                print("\n(exit leaves)")
                continue
            except DataError as fault:
                if not self.interactive:
                    raise
                print(f"error: {fault}")
                continue
            if line.strip().lower() in ("exit", "quit", "/exit", "/quit"):
                return 0
            try:
                self._take(line.strip())
            except BeichenError as fault:
                if not self.interactive:
                    raise
                print(f"error: {fault}")

    def _read(self) -> str:
        """The next line. Raises DataError for bytes that are no text, which ``run`` has let come as halves of surrogate pairs."""
        self._lines += 1
        try:
            line = input(self._prompt if self.interactive else "")
            line.encode()
        except UnicodeError as fault:
            encoding = (getattr(sys.stdin, "encoding", None) or "utf-8").upper()
            raise DataError(
                f"line {self._lines} of the input is not valid {encoding}", remedy=f"convert it first, such as by `iconv -t {encoding}`"
            ) from fault
        return line

    @property
    def _prompt(self) -> str:
        waiting = getattr(self.conversation, "waiting", ())
        return f"result of {waiting[0]['function']['name']}> " if waiting else "> "

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
            answer = say(self.conversation, line)[-1]
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
        messages = [
            message if isinstance(message, dict) else {"role": message.role, "content": message.content}
            for message in self.conversation.messages
        ]
        write_atomically(path, json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        print(f"saved {len(messages)} messages in {path}")
