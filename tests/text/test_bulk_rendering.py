"""Law: many dialogues at once give the ids and weights of each alone, whatever the format, the vocabulary and the contents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.errors import TemplateError
from beichen.text import bulk_rendering
from beichen.text.bulk_rendering import flat, render_in_bulk
from beichen.text.chat_template import chat_template, template_names
from beichen.text.messages import Dialogue, Message, ToolCall
from beichen.text.tokenizer import Tokenizer
from tests.shared_data import shared
from tests.text.agreement import golden_tokenizer
from tests.text.trained import ODD_TEXTS, small_tokenizer

TYPED = ("你好", "a b", "<_end>", " 前", "后\n", "\n\nx\n", "<think>t</think>u", "</think>", "<|im_end|>")
WORDS = st.sampled_from([*TYPED, *(text for text in ODD_TEXTS if text.strip())])
TOOL = {"type": "function", "function": {"name": "f"}}


@st.composite
def dialogues(draw: st.DrawFn, name: str) -> Dialogue:
    form = chat_template(name)
    turns = [Message(role="system", content=draw(WORDS))] if form.takes_system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Message(role="user", content=draw(WORDS)))
        thinking = draw(st.none() | WORDS) if form.thinking is not None else None
        if form.call is not None and form.tool is not None and draw(st.integers(0, 3)) == 0:
            call = ToolCall(name="f", arguments={"a": draw(WORDS)})
            turns.append(Message(role="assistant", content=draw(st.just("") | WORDS), tool_calls=(call,), thinking=thinking))
            turns.append(Message(role="tool", content=draw(st.just("") | WORDS)))
        weight = draw(st.sampled_from([None, 0.0, 0.5]))
        turns.append(Message(role="assistant", content=draw(WORDS), weight=weight, thinking=thinking))
    tools = (TOOL,) if form.system_with_tools is not None and draw(st.integers(0, 3)) == 0 else ()
    return Dialogue(messages=turns, tools=tools)


def assert_as_alone(tokenizer: Tokenizer, given_dialogues: list[Dialogue]) -> None:
    alone = flat([tokenizer.render(one.messages, one.tools) for one in given_dialogues])
    parts = list(render_in_bulk(tokenizer, given_dialogues))
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), alone.ids)
    np.testing.assert_array_equal(np.concatenate([part.weights for part in parts]), alone.weights)
    np.testing.assert_array_equal(np.concatenate([np.diff(part.offsets) for part in parts]), np.diff(alone.offsets))


@pytest.mark.parametrize("name", template_names())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_format(name: str, data: st.DataObject) -> None:
    assert_as_alone(small_tokenizer(name), data.draw(st.lists(dialogues(name), min_size=1, max_size=6)))


@pytest.mark.parametrize(("folder", "name"), [("telechat-12b", "telechat-engine"), ("telechat-52b", "telechat52b"), ("telechat2-7b", None)])
def test_published_vocabularies(folder: str, name: str | None) -> None:
    shared(f"golden/tokenizers/{folder}")
    tokenizer = golden_tokenizer(folder, name)
    turns = [Message(role="user", content=" 你好  a"), Message(role="assistant", content="好\n")]
    assert_as_alone(tokenizer, [Dialogue(messages=turns), Dialogue(messages=turns * 2), Dialogue(messages=turns)])


def test_order_holds_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_rendering, "CHUNK_DIALOGUES", 3)
    monkeypatch.setattr(bulk_rendering, "MOST_SHAPES", 2)
    turn = [Message(role="user", content="q"), Message(role="assistant", content="a")]
    many = [Dialogue(messages=[*turn * (1 + number % 4), turn[0], Message(role="assistant", content=str(number))]) for number in range(10)]
    assert [len(part) for part in render_in_bulk(small_tokenizer(), many)] == [3, 3, 3, 1]
    assert_as_alone(small_tokenizer(), many)
    assert list(render_in_bulk(small_tokenizer(), [])) == []


def test_programs_of_a_folder_are_run_for_each() -> None:
    tokenizer = small_tokenizer("chatml").with_template("jinja")
    assert_as_alone(tokenizer, [Dialogue(messages=[Message(role="user", content="q"), Message(role="assistant", content="a")])] * 2)


def test_what_cannot_be_rendered_is_refused() -> None:
    bad = Dialogue(messages=[Message(role="user", content="q", weight=1.0)])
    with pytest.raises(TemplateError, match="message 0"):
        list(render_in_bulk(small_tokenizer(), [bad]))
