"""Counts of dialogues add up to what is read and learnt."""

from __future__ import annotations

from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.preview import NO_TARGET
from beichen.data.statistics import count_dialogues
from beichen.text.messages import Dialogue, Message, ToolCall
from tests.text.trained import small_tokenizer

CALL = ToolCall(name="f", arguments={})
TURNS = [
    Message(role="system", content="s"), Message(role="user", content="q"), Message(role="assistant", content="", tool_calls=(CALL, CALL)),
    Message(role="tool", content="r"), Message(role="tool", content="r"), Message(role="assistant", content="answer"),
]  # fmt: skip
DIALOGUES = [
    Dialogue(messages=TURNS, tools=({"type": "function", "function": {"name": "f"}},), origin="a.jsonl:1"),
    Dialogue(messages=TURNS[1:2] + TURNS[5:], origin="b:c.jsonl:1"),
    Dialogue(messages=[TURNS[1], Message(role="assistant", content="x" * 300, weight=0.0)], origin="b:c.jsonl:2"),
]


def test_counts_add_up() -> None:
    tokenizer = small_tokenizer("telechat2-bare")
    found = count_dialogues(DIALOGUES, tokenizer, sequence_length=32)
    rendered = [tokenizer.render(one.messages, one.tools) for one in DIALOGUES]
    assert found.dialogues == 3 and found.messages == {"system": 1, "user": 3, "assistant": 4, "tool": 2}
    assert sum(found.tokens.values()) == sum(found.lengths) == sum(len(one.ids) for one in rendered)
    assert found.lengths == [len(one.ids) for one in rendered]
    assert found.targets == sum(sum(one.loss_mask) for one in rendered)
    assert found.tokens["tool"] == sum(len(part.ids) for part in rendered[0].segments if part.role == "tool") > 0
    assert (found.tool_calls, found.with_tools, found.thoughts) == (2, 1, 0)
    assert {name: source.dialogues for name, source in found.sources.items()} == {"a.jsonl": 1, "b:c.jsonl": 2}
    assert sum(source.tokens for source in found.sources.values()) == sum(found.lengths)
    assert found.faults == {NO_TARGET: 1} and found.examples == {NO_TARGET: "b:c.jsonl:2"}
    assert found.quantiles["0"] == min(found.lengths) and found.quantiles["1"] == max(found.lengths)
    assert found.account["read"]["items"] == 3 and found.rows == 1 and 0 < found.packing_efficiency <= 1
    assert found.as_dict()["sources"]["a.jsonl"]["dialogues"] == 1 and "lengths" not in found.as_dict()


def test_settings_choose_what_counts_as_learnt() -> None:
    tokenizer = small_tokenizer("telechat2-bare")
    every = count_dialogues(DIALOGUES[:1], tokenizer, sequence_length=512)
    answers = count_dialogues(DIALOGUES[:1], tokenizer, DialogueSettings(tool_calls=False), sequence_length=512)
    assert answers.tokens == every.tokens and answers.targets == len(tokenizer.encode("answer")) + 1 < every.targets
