"""Requests of OpenAI's interface: what is read, what is refused and where, and that text in them stays text."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.errors import RequestError
from beichen.text.answers.format import answer_format
from beichen.text.answers.stream import read_answer
from beichen.text.chat_requests import MALFORMED, ToolChoice, read_messages, read_tool_choice, read_tools
from beichen.text.messages import Dialogue, Message, ToolCall
from beichen.text.openai_messages import to_openai
from tests.shared_data import shared
from tests.text.agreement import DEFAULTS, golden_tokenizer
from tests.text.answers.reference import merged
from tests.text.test_openai_messages import DIALOGUES
from tests.text.trained import small_tokenizer

USER = {"role": "user", "content": "?"}
TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}


def called(*ids: str, arguments: object = "{}", **fields: object) -> dict:
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}} for name in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls, **fields}


def result(name: str, content: object = "r") -> dict:
    return {"role": "tool", "tool_call_id": name, "content": content}


@settings(max_examples=60)
@given(DIALOGUES)
def test_what_we_write_is_read_back(dialogue: Dialogue) -> None:
    written = json.loads(json.dumps(to_openai(dialogue)))
    bare = [Message(role=one.role, content=one.content, tool_calls=one.tool_calls, thinking=one.thinking) for one in dialogue.messages]
    assert read_messages(written["messages"]) == bare
    assert read_tools(written.get("tools")) == tuple(dialogue.tools)


def test_roles_and_parts():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "\nb"}]
    assert read_messages(
        [{"role": "system", "content": "s"}, {"role": "developer", "content": parts}, {"role": "user", "content": parts, "name": "me"},
         {"role": "assistant", "content": None, "refusal": "no", "annotations": [], "audio": None, "function_call": None},
         {"role": "user", "content": []}, {"role": "developer", "content": "late"}]
    ) == [
        Message(role="system", content="s\n\na\nb"), Message(role="user", content="a\nb"), Message(role="assistant", content="no"),
        Message(role="user", content=""), Message(role="system", content="late"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": "北京"}', {"a": "北京"}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("{}", {}), ("{'a': None}", {"a": None}),
        ('"{\\"a\\": 1}"', {"a": 1}), ('{"a": ', {MALFORMED: '{"a": '}), ("[1]", {MALFORMED: "[1]"}), ("null", {MALFORMED: "null"}),
        ('{"a": "\\ud800"}', {MALFORMED: '{"a": "\\ud800"}'}), ("{'a': {1, 2}}", {MALFORMED: "{'a': {1, 2}}"}),
    ],
)  # fmt: skip
def test_arguments_that_a_model_wrote_are_always_taken_back(arguments, read):
    messages = read_messages([USER, called("c", arguments=arguments), result("c")])
    assert messages[1].tool_calls == (ToolCall(name="f", arguments=read),)
    assert small_tokenizer().render(messages).ids


@given(st.permutations("abcd"))
def test_results_are_put_into_the_order_of_their_calls(order):
    turns = [USER, called(*"abcd"), *(result(name, f"result of {name}") for name in order), USER]
    assert [message.content for message in read_messages(turns)] == ["?", "", *(f"result of {name}" for name in "abcd"), "?"]


@pytest.mark.parametrize(
    ("turns", "param", "words"),
    [
        (None, "messages", "missing"),
        ("hi", "messages", "a string; expected a list"),
        ([], "messages", "no messages"),
        (["hi"], "messages[0]", "expected an object"),
        ([{"content": "a"}], "messages[0].role", "system, developer, user, assistant, tool"),
        ([{"role": None}], "messages[0].role", "missing: expected one of"),
        ([{"role": 3}], "messages[0].role", "a number: expected one of"),
        ([USER, {"role": "asistant", "content": "a"}], "messages[1].role", "did you mean 'assistant'"),
        ([{"role": "user"}], "messages[0].content", "missing"),
        ([{"role": "user", "content": 3}], "messages[0].content", "a number; expected text"),
        ([USER, USER, {"role": "user", "content": ["a"]}], "messages[2].content[0]", "expected an object"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "missing"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0]", "an image (type 'image_url')"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]", "a sound"),
        ([{"role": "user", "content": [{"type": "poem"}]}], "messages[0].content[0].type", "expected 'text'"),
        ([{"role": "user", "content": "a\ud800"}], "messages[0].content", "surrogate pair at character 1"),
        ([{**USER, "tool_calls": [1]}], "messages[0].tool_calls", "only the assistant"),
        ([{**USER, "reasoning_content": "a"}], "messages[0].reasoning_content", "only the assistant"),
        ([USER, {"role": "assistant", "function_call": {}}], "messages[1].function_call", "tool_calls"),
        ([USER, called("a", arguments=3), result("a")], "messages[1].tool_calls[0].function.arguments", "expected text"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages[1].tool_calls[0].function", "missing"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], "messages[1].tool_calls[0].id", "missing"),
        ([USER, called("a", "a"), result("a")], "messages[1].tool_calls[1].id", "two calls"),
        ([USER, called("a", "b"), result("a")], "messages[1].tool_calls[1].id", "no tool message answers the call 'b'"),
        ([USER, called("a")], "messages[1].tool_calls[0].id", "no tool message"),
        ([USER, called("a"), result("b")], "messages[2].tool_call_id", "'b' is no call of messages[1]"),
        ([USER, called("a"), result("a"), result("a")], "messages[3].tool_call_id", "answered twice"),
        ([USER, called("a"), {"role": "tool", "content": "r"}], "messages[2].tool_call_id", "missing"),
        ([USER, result("a")], "messages[1].role", "must follow"),
    ],
)  # fmt: skip
def test_faults_name_their_path(turns, param, words):
    with pytest.raises(RequestError) as caught:
        read_messages(turns)
    assert caught.value.param == param
    assert str(caught.value).startswith(param) and words in str(caught.value)


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        ([TOOL, 3], "tools[1]"),
        ([{"type": "web_search"}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([{"type": "function", "function": {"name": " "}}], "tools[0].function.name"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], "tools[0].function.parameters"),
        ([{"type": "function", "function": {"name": "f", "description": "\ud800"}}], "tools[0]"),
        ([TOOL, TOOL], "tools[1].function.name"),
    ],
)
def test_tools_that_cannot_be_called_are_refused(tools, param):
    with pytest.raises(RequestError) as caught:
        read_tools(tools)
    assert caught.value.param == param


def test_tool_choice():
    named = {"type": "function", "function": {"name": "f"}}
    assert read_tool_choice(None, ()) == read_tool_choice("auto", ()) == read_tool_choice("none", [TOOL]) == ToolChoice(mode="none")
    assert read_tool_choice(None, [TOOL]) == read_tool_choice("auto", [TOOL]) == ToolChoice(mode="auto")
    assert read_tool_choice("required", [TOOL]) == ToolChoice(mode="required")
    assert read_tool_choice(named, [TOOL]) == ToolChoice(mode="named", name="f")
    for value, tools, param in (
        ("required", (), "tool_choice"),
        (named, (), "tool_choice"),
        ("always", [TOOL], "tool_choice"),
        ({"type": "allowed_tools"}, [TOOL], "tool_choice.type"),
        ({"type": "function", "function": {"name": "g"}}, [TOOL], "tool_choice.function.name"),
    ):
        with pytest.raises(RequestError) as caught:
            read_tool_choice(value, tools)
        assert caught.value.param == param


def texts_with_names(tokenizer, random_: random.Random):
    """Texts of names of control tokens, whole and cut, between words."""
    names = list(tokenizer.special_ids)
    parts = [*names[:40], *(name[:-1] for name in names[:40]), "你好", " ", "\n", "<", "a"]
    while True:
        yield "".join(random_.choices(parts, k=random_.randint(1, 6)))


def control_ids_stay(tokenizer, random_: random.Random, rounds: int) -> None:
    """Law: the control ids of a rendered dialogue do not depend on what its texts say."""
    control = set(tokenizer.special_ids.values())
    form = answer_format(tokenizer.chat_format)
    said = texts_with_names(tokenizer, random_)
    for _ in range(rounds):

        def turns(text) -> list[dict]:
            made = [{"role": "user", "content": [{"type": "text", "text": text()}]}, assistant(text), {"role": "user", "content": text()}]
            if form.calls:
                call = {"id": "c", "function": {"name": text(), "arguments": json.dumps({text(): text()})}}
                made += [assistant(text, tool_calls=[call]), {"role": "tool", "tool_call_id": "c", "content": text()}]
            return made

        def assistant(text, **fields) -> dict:  # what stands before </think> in an answer is its thought, so an answer has none here
            return {"role": "assistant", "content": text().replace("</think>", ""), **fields}

        evil = tokenizer.render(read_messages(turns(lambda: next(said))), add_generation_prompt=True).ids
        tame = tokenizer.render(read_messages(turns(lambda: "x")), add_generation_prompt=True).ids
        assert [token for token in evil if token in control] == [token for token in tame if token in control]


@pytest.mark.parametrize("name", ["telechat", "telechat52b", "telechat2", "ndl", "llama3", "qwen1", "qwen2.5", "qwen3"])
def test_names_of_control_tokens_in_messages_stay_text(name):
    control_ids_stay(small_tokenizer(name), random.Random(name), 100)


@pytest.mark.parametrize("name", DEFAULTS)
def test_they_stay_text_in_the_published_vocabularies(name):
    shared("golden/tokenizers")
    control_ids_stay(golden_tokenizer(name), random.Random(name), 30)


def test_a_call_goes_round():
    """A streamed call, sent back as clients do, renders as the model wrote it."""
    tokenizer = small_tokenizer()
    text = 'Let me see.<tool_call>\n{"name": "查", "arguments": {"城市": "北京"}}\n</tool_call>'
    said, call = merged(read_answer(answer_format(tokenizer.chat_format), text))
    turn = {
        "role": "assistant",
        "content": said[1],
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": call[1], "arguments": call[2]}}],
    }
    assert f"<_bot>{text}<_end>" in tokenizer.render_text(read_messages([USER, turn, result("c")]))
