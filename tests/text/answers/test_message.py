"""Events put together: each part is what the events of its kind say, in their order."""

from __future__ import annotations

from beichen.text.answers.events import CallArguments, CallBegin, CallEnd, Event, Said, Thought, Unsaid
from beichen.text.answers.message import MessageParts, end_reason


def test_parts_are_what_events_of_their_kind_say():
    events: list[Event] = [
        Thought("a", "a"), Thought("b", "b"), Unsaid("</think>"), Said("c", "c"), CallBegin(0, "f", "<f>"), CallArguments(0, "{", "{"),
        CallArguments(0, "}", "}"), CallEnd(0), Unsaid("\n"), CallBegin(1, "g", "<g>"), CallEnd(1), Said("d", "d"),
    ]  # fmt: skip
    message = MessageParts()
    for event in events:
        message.add(event)
    assert (message.thought, message.content) == ("ab", "cd")
    assert [(call.name, call.arguments) for call in message.calls] == [("f", "{}"), ("g", "")]


def test_only_an_answer_that_stopped_by_itself_waits_for_its_calls():
    told = {(reason, called): end_reason(reason, called=called) for reason in ("stop", "length", "cancelled") for called in (False, True)}
    assert {case for case, reason in told.items() if reason != case[0]} == {("stop", True)} and told["stop", True] == "tool_calls"
