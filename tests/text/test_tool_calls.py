import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beichen.errors import DataError
from beichen.text.chat import render_text
from beichen.text.chat_template import chat_template
from beichen.text.messages import Message, ToolCall
from beichen.text.tool_calls import parse_answer, parse_call
from tests.shared_data import shared

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=3), LEAVES, max_size=3)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=arguments), st.just("f"), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
)


@given(content=st.text().filter(lambda text: "<tool_call>" not in text), calls=st.lists(CALLS, min_size=1, max_size=3))
def test_calls_that_the_template_writes_are_read_back(content, calls):
    form = chat_template("telechat2-bare")
    text = render_text(form, [Message(role="assistant", content=content, tool_calls=calls)])
    if any("</tool_call>" in json.dumps(call.arguments) for call in calls):
        return
    parsed = parse_answer(text.removeprefix("<_bot>").removesuffix("<_end>\n"))
    assert (parsed.content, list(parsed.calls)) == (content, calls)
    assert set(parsed.kinds) == {"strict"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', "strict"),
        ('{"function": {"name": "f", "arguments": {"a": 1}}}', "strict"),
        ('{"name": " f ", "arguments": {"a": 1}}', "strict_name_ws"),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', "args_string"),
        ("{'name': 'f', 'arguments': {'a': 1}}", "python_literal"),
        ("{'name': 'f', 'arguments': '{\"a\": 1}'}", "python_literal"),
    ],
)
def test_each_way_of_mending_is_named(text, kind):
    assert parse_call(text) == (ToolCall(name="f", arguments={"a": 1}), kind)


@pytest.mark.parametrize(
    "text",
    ["<tool_call>{", "<tool_call>{}</tool_call>", "<tool_call>f(1)</tool_call>", "<tool_call>[]</tool_call>",
     '<tool_call>{"name": "f", "arguments": 5}</tool_call>', '<tool_call>{"name": "f"}</tool_call> and more'],
)  # fmt: skip
def test_what_is_no_call_is_refused(text):
    with pytest.raises(DataError):
        parse_answer(text)


def test_golden_calls():
    for row in map(json.loads, shared("golden/templates/telechat2.tool_calls.jsonl").read_text().split("\n")[:-1]):
        parsed = parse_answer(row["message"])
        assert parsed.content == row["text_before_first_call"]
        found = [(kind, call.name, call.arguments) for kind, call in zip(parsed.kinds, parsed.calls, strict=True)]
        assert found == [(call["kind"], call["name_stripped"], call["arguments"]) for call in row["calls"]]
