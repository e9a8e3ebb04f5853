"""A dialogue of several turns with one model: what was said, and what of it still fits into the trained length.

In: what the user says, turn by turn. Out: a stream of deltas. Rule: when the history grows too long, whole turns leave from its
beginning (the system message stays), never a part of a turn; ``dropped`` says how many messages the model no longer sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beichen.errors import SettingsError
from beichen.inference.api import Delta, Request
from beichen.inference.language_model import MAX_NEW_TOKENS, LanguageModel
from beichen.text.messages import Message
from beichen.text.prompts import last_turns


class Conversation:
    """``ask`` and read the answer; the history grows by both, also when the answer was broken off."""

    def __init__(self, model: LanguageModel, *, system: str | None = None, **settings: Any) -> None:
        """settings: ``thinking`` and those of ``LanguageModel.request``. Raises ``TemplateError`` where the chat format cannot say this."""
        self.model, self.settings = model, settings
        self.thinking: bool | None = self.settings.pop("thinking", None)
        self.messages: list[Message] = []
        self.dropped = 0
        self.system: str | None = None
        self.start_over(system=system)

    @property
    def title(self) -> str:
        """Who answers."""
        return f"{self.model.family}, {self.model.max_length} tokens."

    def start_over(self, *, system: str | None = None) -> None:
        """Forget what was said; ``system`` is the system message from now on."""
        opening = [] if system is None else [Message(role="system", content=system)]
        self._prompt([*opening, Message(role="user", content="")])
        self.system, self.messages, self.dropped = system, opening, 0

    def ask(self, text: str) -> Iterator[Delta]:
        """Say something and read the answer; closing the iterator breaks the answer off and keeps what was read."""
        messages = [*self.messages, Message(role="user", content=text)]
        request = self._fitting(messages)
        self.messages = messages
        return self._answer(request)

    def _answer(self, request: Request) -> Iterator[Delta]:
        said = ""
        self.messages.append(Message(role="assistant", content=said))
        for delta in self.model.generator.stream(request):
            said += delta.text
            self.messages[-1] = Message(role="assistant", content=said)
            yield delta

    def _prompt(self, messages: list[Message]) -> list[int]:
        return self.model.tokenizer.render(messages, add_generation_prompt=True, thinking=self.thinking).ids

    def _fitting(self, messages: list[Message]) -> Request:
        """The longest end of the dialogue that leaves room for an answer: up to a quarter of the trained length if it was not stated."""
        wished = self.model.defaults.max_new_tokens or MAX_NEW_TOKENS
        room = self.settings.get("max_new_tokens") or min(wished, self.model.max_length // 4)
        ids, dropped = last_turns(messages, self._prompt, self.model.max_length - room)
        if dropped is not None:
            self.dropped = dropped
            return self.model.request(ids, **self.settings)
        stated = self.settings.get("max_new_tokens")
        if stated is not None and len(ids) < self.model.max_length:
            raise SettingsError(
                f"max_new_tokens={stated}: this message needs {len(ids)} tokens; the model was trained on {self.model.max_length}",
                remedy=f"ask for at most {self.model.max_length - len(ids)} new tokens, or leave the number out",
            )
        raise SettingsError(
            f"this message needs {len(ids)} tokens and its answer up to {room}; the model was trained on {self.model.max_length}",
            remedy="say it in fewer words, or shorten the system message",
        )
