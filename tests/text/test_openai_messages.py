"""Law: what is written as OpenAI messages is read back as what it was."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.text.dialogues import read_dialogue
from beichen.text.messages import Dialogue, Message, Preference, RatedDialogue, ToolCall
from beichen.text.openai_messages import to_openai
from beichen.text.preferences import read_preference

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{<"), min_size=1, max_size=9).filter(lambda text: text.strip())
CALLS = st.lists(
    st.builds(lambda name, value: ToolCall(name=name.strip(), arguments={"a": value}), WORDS, st.integers() | WORDS), min_size=1, max_size=3
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Message]:
    """A question, calls with their results, an answer."""
    weight, thinking = draw(st.none() | st.sampled_from([0.0, 0.5, 1.0])), draw(st.none() | WORDS)
    turns = [Message(role="user", content=draw(WORDS))]
    if draw(st.booleans()):
        calls = draw(CALLS)
        turns.append(Message(role="assistant", content=draw(st.just("") | WORDS), tool_calls=tuple(calls), thinking=thinking))
        turns += [Message(role="tool", content=draw(WORDS)) for _ in calls]
    return [*turns, Message(role="assistant", content=draw(WORDS), weight=weight, thinking=thinking)]


DIALOGUES = st.builds(
    lambda system, parts, tools: Dialogue(messages=[*system, *(turn for part in parts for turn in part)], tools=tools, origin="f:1"),
    st.lists(WORDS.map(lambda text: Message(role="system", content=text)), max_size=1),
    st.lists(rounds(), min_size=1, max_size=3),
    st.sampled_from([(), (TOOL,)]),
)


def written(sample: Dialogue | Preference | RatedDialogue) -> dict:
    return json.loads(json.dumps(to_openai(sample), ensure_ascii=False))


@settings(max_examples=60, deadline=None)
@given(DIALOGUES)
def test_dialogues_come_back(dialogue: Dialogue) -> None:
    assert read_dialogue(written(dialogue), "f:1") == dialogue


@settings(max_examples=30, deadline=None)
@given(DIALOGUES, st.booleans())
def test_ratings_come_back(dialogue: Dialogue, good: bool) -> None:
    rated = RatedDialogue(messages=dialogue.messages, good=good, tools=dialogue.tools, origin="f:1")
    assert read_preference(written(rated), "f:1") == rated


@settings(max_examples=30, deadline=None)
@given(DIALOGUES, WORDS)
def test_pairs_come_back(dialogue: Dialogue, other: str) -> None:
    *prompt, answer = dialogue.messages
    pair = Preference(
        prompt=prompt, chosen=[answer], rejected=[replace(answer, content=answer.content + other)], tools=dialogue.tools, origin="f:1"
    )
    assert read_preference(written(pair), "f:1") == pair


def test_results_name_their_calls() -> None:
    call = ToolCall(name="f", arguments={})
    turns = [Message(role="user", content="q")]
    for _ in range(2):
        turns += [Message(role="assistant", content="", tool_calls=(call, call)), *[Message(role="tool", content="r")] * 2]
    record = written(Dialogue(messages=[*turns, Message(role="assistant", content="a")]))
    made = [call["id"] for turn in record["messages"] for call in turn.get("tool_calls", ())]
    assert made == [turn["tool_call_id"] for turn in record["messages"] if turn["role"] == "tool"] == [f"call_{n}" for n in range(4)]


@pytest.mark.parametrize("key", ["content", "arguments"])
def test_nothing_is_escaped(key: str) -> None:
    call = ToolCall(name="f", arguments={"城": "北京"})
    text = json.dumps(to_openai(Dialogue(messages=[Message(role="assistant", content="你好", tool_calls=(call,))])), ensure_ascii=False)
    assert {"content": "你好", "arguments": "北京"}[key] in text
