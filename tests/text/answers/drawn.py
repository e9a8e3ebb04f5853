"""Texts such as models write, faults and all, drawn piece by piece."""

from __future__ import annotations

import random

FRAGMENTS = (
    "<tool_call>", "</tool_call>", "<tool_call>\n", "\n</tool_call>", "<tool_call>{}</tool_call>", "<", "<tool", "</tool_call",
    "<think>", "</think>", "\n", "\n\n", "\r\n", " ", "\t", "好的，我来查一下。", "Let me see.", "don't ", "👨‍👩‍👧", "🇨🇳", "𠮷", "\u3000",
    "}", "{", "}}}", '"', "'", "\\", '\\"', "\\u4f60", ", ",
    '{"name": "f", "arguments": {', '"a": "b"', '"城市": "北京 </tool_call> \\" }"', '"x": [1, {"y": null}]', ', "id": 3}',
)  # fmt: skip
CALLS = (
    '<tool_call>\n{"name": "查天气", "arguments": {"城市": "上海", "温度": [20.5, -1e3, true]}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',
    '<tool_call>{"name": "g", "arguments": "{\\"k\\": 1}"}\n</tool_call>',
    "<tool_call>\n{'name': ' h ', 'arguments': {'it': \"it's\"}}\n</tool_call>",
    '<tool_call>\n{"arguments": {"z": 0}, "name": "late"}',
    '<tool_call>{"name": "n", "arguments": null}</tool_call>',
    '<tool_call>{"name": "", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "a", "arguments": {"b": "',
    '"}}</tool_call>',
)


def drawn(random_: random.Random, parts: int) -> str:
    """A text of up to so many parts, a third of them calls."""
    return "".join(random_.choice(CALLS if random_.random() < 0.3 else FRAGMENTS) for _ in range(random_.randint(1, parts)))
