"""Parts of ``beichen chat`` that a server at a URL needs: the connection, and thoughts and tool calls on the screen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from beichen.cli.options import read_json_option
from beichen.cli.sampling_options import sampling_settings_of
from beichen.errors import SettingsError

if TYPE_CHECKING:
    from beichen.inference.api import Delta
    from beichen.inference.remote import RemoteConversation

_DIM, _PLAIN = "\033[2m", "\033[0m"
_LOCAL_ONLY = ("device", "dtype", "threads", "base", "template", "quantize", "compatibility")


def connect(arguments: argparse.Namespace) -> RemoteConversation:
    """A dialogue with the server of ``--url``; its model is looked up, so that a wrong address is known at once."""
    from beichen.inference.remote import Endpoint, RemoteConversation

    given = next((name for name in _LOCAL_ONLY if getattr(arguments, name) not in (None, [])), None)
    if given is not None:
        raise SettingsError(f"--{given} is the server's own affair", remedy="leave it out beside --url")
    endpoint = Endpoint(arguments.url, key=_key(arguments))
    return RemoteConversation(
        endpoint, endpoint.choose(arguments.model), system=arguments.system, tools=_tools(arguments), thinking=arguments.thinking,
        **sampling_settings_of(arguments),
    )  # fmt: skip


def _key(arguments: argparse.Namespace) -> str | None:
    from beichen.serve.access import read_keys

    if arguments.api_key_file is None:
        return None
    key = read_keys(arguments.api_key_file)[0]
    if not key.isascii():
        raise SettingsError(
            f"--api-key-file {arguments.api_key_file}: its first key has letters beyond ASCII", remedy="write the key there"
        )
    return key


def _tools(arguments: argparse.Namespace) -> list[dict[str, object]]:
    if arguments.tools is None:
        return []
    tools = read_json_option("--tools", arguments.tools)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise SettingsError(f"--tools {arguments.tools}: expected a list of objects", remedy='[{"type": "function", "function": {...}}]')
    return list(tools)


class AnswerPrinter:
    """Prints deltas as they come: text as it is; thoughts and calls, where a server tells them apart, on lines of their own."""

    def __init__(self, *, colored: bool) -> None:
        self._colored, self._part, self._open = colored, "text", False

    def show(self, delta: Delta) -> None:
        from beichen.inference.remote import RemoteDelta

        if isinstance(delta, RemoteDelta):
            self._piece("thought", delta.thought, "(thinking) ")
            self._piece("text", delta.text, "")
            if delta.call_name:
                self._part = "a call before"  # each call has a line of its own
                self._piece("call", delta.call_name + " ", "(calls) ")
            self._piece("call", delta.call_arguments, "")
        else:
            self._piece("text", delta.text, "")

    def end(self) -> None:
        print(_PLAIN if self._colored and self._part == "thought" else "")

    def _piece(self, part: str, text: str, head: str) -> None:
        if not text:
            return
        begins = part != self._part or not self._open
        if begins and self._open:
            print(_PLAIN if self._colored and self._part == "thought" else "")
        if begins:
            text = (_DIM if self._colored and part == "thought" else "") + head + text
        self._part, self._open = part, True
        print(text, end="", flush=True)
