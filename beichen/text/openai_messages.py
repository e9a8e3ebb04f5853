"""Dialogues and preferences as the JSON objects of OpenAI's chat interface: what ``beichen data convert`` writes.

Comes in: our types. Goes out: records that our own readers (and other programs) read. Rule kept here: reading what was written gives the
same messages, tools, weights and thoughts; only ``origin`` is not part of a record. Calls get numbered ids, since the interface wants
them; results refer to them in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from beichen.text.messages import Dialogue, Message, Preference, RatedDialogue


def to_openai(sample: Dialogue | Preference | RatedDialogue) -> dict[str, Any]:
    """The record: ``messages`` (with ``label`` if rated), or ``prompt``, ``chosen`` and ``rejected``; ``tools`` where there are any."""
    if isinstance(sample, Preference):
        sides = {"prompt": sample.prompt, "chosen": sample.chosen, "rejected": sample.rejected}
        calls = sum(len(message.tool_calls) for message in sample.prompt)
        record: dict[str, Any] = {key: _messages(side, 0 if key == "prompt" else calls) for key, side in sides.items()}
    else:
        record = {"messages": _messages(sample.messages, 0)}
        if isinstance(sample, RatedDialogue):
            record["label"] = sample.good
    return {**record, "tools": list(sample.tools)} if sample.tools else record


def _messages(messages: Iterable[Message], calls: int) -> list[dict[str, Any]]:
    """Messages whose first call has number ``calls``."""
    written, answered = [], calls
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["content"] = message.content or None
            turn["tool_calls"] = [
                {
                    "id": f"call_{calls + place}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
                }
                for place, call in enumerate(message.tool_calls)
            ]
            answered, calls = calls, calls + len(message.tool_calls)
        if message.role == "tool":
            turn["tool_call_id"] = f"call_{answered}"
            answered += 1
        if message.thinking is not None:
            turn["reasoning_content"] = message.thinking
        if message.weight is not None:
            turn["weight"] = message.weight
        written.append(turn)
    return written
