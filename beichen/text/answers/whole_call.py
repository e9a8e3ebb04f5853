"""A call that had to be read as a whole: its name, and its arguments as JSON that every client can parse and send."""

from __future__ import annotations

import json

from beichen.errors import DataError
from beichen.text.answers.format import CallFormat
from beichen.text.tool_calls import parse_call


def whole_call(text: str, form: CallFormat) -> tuple[str, str] | None:
    """Name and arguments; ``None`` where the text is no call. A call that states no arguments has none."""
    try:
        call = parse_call(text, name_key=form.name, arguments_key=form.arguments)[0]
        arguments = json.dumps(call.arguments, ensure_ascii=False, allow_nan=False)
    except (DataError, ValueError, TypeError, RecursionError):
        return None
    if not call.name or not _can_be_sent(call.name):
        return None
    return call.name, arguments if _can_be_sent(arguments) else json.dumps(call.arguments)


def _can_be_sent(text: str) -> bool:
    """Whether a text is Unicode: an escape can spell half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
