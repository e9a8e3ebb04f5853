"""Which answers are learnt: each option against what it says, on tokens, by a real chat format."""

from __future__ import annotations

import pytest

from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.dialogue_tokens import collect_dialogues, rendered_for_training
from beichen.data.loss_mask import weigh_answers
from beichen.errors import DataError, SettingsError
from beichen.text.messages import Dialogue, Message, ToolCall
from tests.text.trained import small_tokenizer

CALL = ToolCall(name="f", arguments={})
TURNS = [
    Message(role="user", content="q1"),
    Message(role="assistant", content="first"),
    Message(role="user", content="q2"),
    Message(role="assistant", content="call", tool_calls=(CALL,), thinking="hm"),
    Message(role="tool", content="result"),
    Message(role="assistant", content="last", weight=0.5),
]
DIALOGUE = Dialogue(messages=TURNS, origin="f:1")


def learnt(settings: DialogueSettings, template: str = "qwen3") -> list[str]:
    """The text of each run of targets, with its weight where it is not 1."""
    tokenizer = small_tokenizer(template)
    (part,) = rendered_for_training([DIALOGUE], tokenizer, settings)
    runs: list[str] = []
    before = 0.0
    for token, weight in zip(part.ids.tolist(), part.weights.tolist(), strict=True):
        if weight and not before:
            runs.append("" if weight == 1 else f"{weight}x ")
        if weight:
            runs[-1] += tokenizer.decode([token], skip_special=False)
        before = weight
    return runs


def test_each_option_chooses_its_answers() -> None:
    first, call, last = learnt(DialogueSettings())
    assert first == "first<|im_end|>"
    assert "<think>\nhm\n</think>" in call and '"name": "f"' in call and call.endswith("<|im_end|>")
    assert last.startswith("0.5x ") and last.endswith("last<|im_end|>")
    assert learnt(DialogueSettings(answers="last")) == [call, last]
    assert learnt(DialogueSettings(tool_calls=False)) == [first, last]
    assert learnt(DialogueSettings(answers="last", tool_calls=False)) == [last]
    (_, without, _) = learnt(DialogueSettings(thinking=False))
    assert "hm" not in without and '"name": "f"' in without


def test_a_format_without_thoughts_takes_none_in_silence() -> None:
    with pytest.raises(DataError, match="f:1: an answer has a thought, for which the model's chat format has no place"):
        learnt(DialogueSettings(), "telechat2")
    assert len(learnt(DialogueSettings(thinking=False), "telechat2")) == 3


def test_thoughts_inside_contents_are_taken_out_too() -> None:
    turns = [Message(role="user", content="q"), Message(role="assistant", content="<think>\nhm\n</think>\n\na")]
    weighed = weigh_answers(Dialogue(messages=turns), DialogueSettings(thinking=False))
    assert weighed.messages[1].content == "a"


def test_weights_of_records_are_kept_and_only_lowered_to_nothing() -> None:
    dialogue = Dialogue(messages=[*TURNS[:2], TURNS[0], Message(role="assistant", content="b", weight=0.0)])
    assert [message.weight for message in weigh_answers(dialogue, DialogueSettings(answers="last")).messages] == [None, 0.0, None, 0.0]
    rendered = rendered_for_training([weigh_answers(dialogue, DialogueSettings(answers="last"))], small_tokenizer())
    tokens = collect_dialogues(rendered, sequence_length=64, pad_id=0)
    assert len(tokens) == 0 and tokens.account.dropped["nothing in it is scored"].items == 1


def test_placeholders_are_pairs() -> None:
    assert DialogueSettings(placeholders=("name=a=b", "author=")).filled == {"name": "a=b", "author": ""}
    with pytest.raises(SettingsError, match="expected name=value"):
        DialogueSettings(placeholders=("name",))
