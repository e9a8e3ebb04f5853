"""Which answers of a dialogue are learnt: settings become weights of messages, before the dialogue is rendered.

In: a dialogue, ``DialogueSettings``. Out: the same dialogue, each answer with its weight. Rule: the mask of tokens follows from these
weights and from the segments of the chat format alone; nothing is ever found again by searching ids.
"""

from __future__ import annotations

from dataclasses import replace

from beichen.data.dialogue_settings import DialogueSettings
from beichen.errors import DataError
from beichen.text.chat import thought_and_answer
from beichen.text.messages import Dialogue, Message


def weigh_answers(dialogue: Dialogue, settings: DialogueSettings, *, takes_thoughts: bool = True) -> Dialogue:
    """The dialogue that is rendered for training. ``takes_thoughts``: the chat format has a place for them; where it has none, a thought is
    an error unless the settings take it out."""
    messages = dialogue.messages
    if settings.thinking and not takes_thoughts and any(message.thinking is not None for message in messages):
        raise DataError(
            f"{dialogue.origin}: an answer has a thought, for which the model's chat format has no place",
            remedy="leave thoughts out (dialogues.thinking false, --no-thinking), or choose a chat format that writes them",
        )
    if settings.answers == "all" and settings.tool_calls and settings.thinking:
        return dialogue
    question = max((place for place, message in enumerate(messages) if message.role == "user"), default=-1)
    first = 0 if settings.answers == "all" else question + 1
    return replace(dialogue, messages=[_weighed(message, place >= first, settings) for place, message in enumerate(messages)])


def _weighed(message: Message, chosen: bool, settings: DialogueSettings) -> Message:
    if message.role != "assistant":
        return message
    if not chosen or (message.tool_calls and not settings.tool_calls):
        message = replace(message, weight=0.0)
    if settings.thinking:
        return message
    return replace(message, thinking=None, content=thought_and_answer(message)[1])
