"""Answers as streams: the same events however the text is cut, and those of a slow reader of whole texts."""

import json
import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beichen.text.answers.events import CallArguments, CallBegin, CallEnd, Said, Unsaid
from beichen.text.answers.format import AnswerFormat, CallFormat, answer_format
from beichen.text.answers.stream import HEADER_MOST, AnswerStream, read_answer
from beichen.text.chat import render_text
from beichen.text.chat_template import chat_template
from beichen.text.messages import Message, ToolCall
from beichen.text.stream import IncrementalDecoder
from beichen.text.tool_calls import parse_answer
from tests.shared_data import shared
from tests.text.answers.drawn import drawn
from tests.text.answers.reference import merged, reference
from tests.text.trained import small_tokenizer

TELECHAT2, QWEN3 = (answer_format(chat_template(name)) for name in ("telechat2", "qwen3"))
TINY = AnswerFormat(calls=CallFormat(open="<", close=">", name="n", arguments="a", separator="\n"), thought=("(", ")"))


def cut(text: str, places) -> list[str]:
    edges = [0, *places, len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def certain_after(form: AnswerFormat, text: str, **options) -> list[int]:
    """How many characters have left the stream after each prefix, pushed one by one."""
    stream, left, counts = AnswerStream(form, **options), 0, [0]
    for letter in text:
        left += sum(len(event.source) for event in stream.push(letter))
        counts.append(left)
    return counts


def check(form: AnswerFormat, text: str, pieces: list[str], expected, counts: list[int], **options) -> None:
    """One way of cutting: says what is expected, loses nothing, and is never late or early."""
    stream = AnswerStream(form, **options)
    events, place, left = [], 0, 0
    for piece in pieces:
        new = stream.push(piece)
        events += new
        place += len(piece)
        left += sum(len(event.source) for event in new)
        assert left == counts[place], (text, pieces)
    events += stream.finish()
    assert merged(events) == expected, (text, pieces)
    assert "".join([event.source for event in events]) == text


SHORT = (
    '<{"n":"f","a":{}', 'a\n<{"n":', "<{'n':'f'}>", "a\n<\n<{}>\n", "( \n)\n\na<", "\n(<)<>{", "<{\"n':'>}\n>", "<{}}>} b", "a\n\n<{}",
)  # fmt: skip


@pytest.mark.parametrize("text", SHORT)
def test_all_splits_of_short_texts(text):
    expected, counts = reference(TINY, text), certain_after(TINY, text)
    splits = 0
    for size in range(len(text)):
        for places in combinations(range(1, len(text)), size):
            check(TINY, text, cut(text, places), expected, counts)
            splits += 1
    assert splits == 2 ** (len(text) - 1)


WHOLE = '好。\n<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call>\\""}}\n</tool_call>'


@pytest.mark.parametrize("form", [TELECHAT2, QWEN3], ids=["telechat2", "qwen3"])
def test_all_splits_into_three_pieces(form):
    expected, counts = reference(form, WHOLE), certain_after(form, WHOLE)
    assert expected[1:] == [["call", "f", '{"a": "</tool_call>\\""}', True]]
    for places in combinations(range(1, len(WHOLE)), 2):
        check(form, WHOLE, cut(WHOLE, places), expected, counts)


def test_a_hundred_thousand_random_splits_of_long_texts():
    random_ = random.Random(7)
    splits = letters = calls = 0
    while splits < 100_000:
        form = random_.choice((TELECHAT2, QWEN3))
        options = {"in_thought": form is QWEN3 and random_.random() < 0.2, "calls": random_.random() < 0.9}
        text = drawn(random_, 10)
        expected, counts = reference(form, text, **options), certain_after(form, text, **options)
        calls += sum(one[0] == "call" for one in expected)
        for _ in range(100):
            places = sorted(random_.sample(range(1, len(text) + 1), min(len(text), random_.randint(0, 8))))
            check(form, text, cut(text, places), expected, counts, **options)
            splits += 1
            letters += len(text)
    assert (splits, letters > 10_000_000, calls > 800) == (100_000, True, True)


@pytest.mark.parametrize("form", [TELECHAT2, QWEN3, TINY], ids=["telechat2", "qwen3", "tiny"])
def test_many_texts_say_what_the_slow_reader_says(form):
    random_ = random.Random(3)
    for _ in range(1000):
        text = drawn(random_, 12)
        if form is TINY:
            text = text.replace("<tool_call>", "<").replace("</tool_call>", ">").replace('"name"', '"n"').replace('"arguments"', '"a"')
        check(form, text, [text], reference(form, text), [0] * len(text) + [certain_after(form, text)[-1]])


def answer_text(template, message: Message) -> str:
    """What a model emits of a message, without its end token."""
    question = Message(role="user", content="?")
    prompt = render_text(template, [question], add_generation_prompt=True)
    return render_text(template, [question, message])[len(prompt) :].rpartition(template.stop[0])[0]


NAMES = st.text(min_size=1, max_size=8).map(str.strip).filter(bool)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.sampled_from(["</tool_call>", "<tool_call>", "}", '{"', "\r\n", "😀"])
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), LEAVES | st.lists(LEAVES, max_size=2), max_size=3)
CALLS = st.lists(st.builds(lambda name, arguments: ToolCall(name=name, arguments=arguments), NAMES, ARGUMENTS), max_size=3)
PROSE = st.text(max_size=12).filter(lambda text: "<" not in text and (not text or text.strip(" \t\r\n")))


@settings(max_examples=50)
@given(prose=PROSE, thought=st.text(max_size=8).filter(lambda text: "<" not in text), calls=CALLS)
@pytest.mark.parametrize("name", ["telechat2", "chatml", "qwen3"])
def test_what_a_template_writes_is_read_back(name, prose, thought, calls):
    template = chat_template(name)
    form = answer_format(template)
    thought = thought.strip("\n") if form.thought else ""
    prose = prose.lstrip("\n") if form.thought else prose
    answer = answer_text(template, Message(role="assistant", content=prose, tool_calls=calls, thinking=thought or None))
    found = merged(read_answer(form, answer))
    said = {kind: "".join(one[1] for one in found if one[0] == kind) for kind in ("said", "thought")}
    assert (said["said"], said["thought"]) == (prose, thought)
    assert [(one[1], json.loads(one[2])) for one in found if one[0] == "call"] == [(call.name, dict(call.arguments)) for call in calls]


def say(text: str, form: AnswerFormat = TELECHAT2, **options):
    return merged(read_answer(form, text, **options))


def call(name: str, arguments: str):
    return ["call", name, arguments, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', [call("f", "{}")]),
        ('<tool_call>{"name":" f ","arguments":{"a" : 1}}</tool_call>', [call("f", '{"a" : 1}')]),
        ('<tool_call>{"name": "f"}</tool_call>', [call("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": null}</tool_call>', [call("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [call("f", '{"a": 1}')]),
        ("<tool_call>{'name': 'f', 'arguments': {'a': None}}</tool_call>", [call("f", '{"a": null}')]),
        ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', [call("f", '{"a": 1}')]),
        ('<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}</tool_call>', [call("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "}"}</tool_call> b', [call("f", '{"a": 1}'), ["said", " b"]]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}}\n</tool_call>', [call("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}\n</tool_call>b', [call("f", '{"a": 1}'), ["said", "b"]]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}\nDone.', [call("f", '{"a": 1}'), ["said", "\nDone."]]),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}<tool_call>{"name": "g"}', [call("f", '{"a": 1}'), call("g", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {"a": "1\n2\t"}}</tool_call>', [call("f", '{"a": "1\\n2\\t"}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": "x}}</tool_call>\nb', [call("f", '{"a": "x}}'), ["said", "\nb"]]),
        ('<tool_call>{"name": "f", "arguments": {"a": "x</tool_call>", "b": 1}}', [call("f", '{"a": "x</tool_call>", "b": 1}')]),
        ('<tool_call>{"name": "f", "arguments": {"a": [1, }}</tool_call>', [call("f", '{"a": [1, }')]),
        ('<tool_call>{"name": "f", "arguments": {"a": "half', [call("f", '{"a": "half')]),
        ('a<tool_call>{"name": "f", "argu', [["said", 'a<tool_call>{"name": "f", "argu']]),
        ("a <tool_call> b", [["said", "a <tool_call> b"]]),
        ("<tool_call>{not json}</tool_call>b", [["said", "<tool_call>{not json}</tool_call>b"]]),
        ('<tool_call>{"name": "\\ud800"}</tool_call>', [["said", '<tool_call>{"name": "\\ud800"}</tool_call>']]),
        ("<tool_call>{'name': 'f', 'arguments': {'a': '\\ud800'}}</tool_call>", [call("f", '{"a": "\\ud800"}')]),
        ("  \n", [["said", "  \n"]]),
        ("", []),
    ],
)  # fmt: skip
def test_the_rules_by_example(text, expected):
    assert say(text) == expected
    assert "".join(event.source for event in read_answer(TELECHAT2, text)) == text


def test_nesting_without_end_is_a_call_or_prose_and_no_crash():
    deep = '{"a":' * 100_000
    assert say(f'<tool_call>{{"name": "f", "arguments": {deep}')[0][:2] == ["call", "f"]
    late = f'<tool_call>{{"arguments": {deep}1{"}" * 100_000}, "name": "f"}}</tool_call>'
    assert say(late) == [["said", late]]


def test_a_name_may_be_streamed_up_to_a_length_and_is_read_whole_beyond():
    for size in (HEADER_MOST // 2, 2 * HEADER_MOST):
        name = "n" * size
        text = f'<tool_call>{{"name": "{name}", "arguments": {{"a": 1}}}}</tool_call>'
        assert say(text) == [call(name, '{"a": 1}')]


def test_name_and_arguments_leave_as_soon_as_they_are_certain():
    stream = AnswerStream(TELECHAT2)
    assert stream.push('好<tool_call>\n{"name": "f", "arguments": {') == [Said("好", "好")]
    begin, arguments = stream.push('"')
    assert begin == CallBegin(0, "f", '<tool_call>\n{"name": "f", "arguments": ')
    assert arguments == CallArguments(0, '{"', '{"')
    assert stream.push('a": "b') == [CallArguments(0, 'a": "b', 'a": "b')]
    *more, end, _ = stream.push('"}}')
    assert more == [CallArguments(0, '"}', '"}')] and end == CallEnd(0)
    second = stream.push('</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>')  # two calls meet in one delta
    assert [type(event) for event in second] == [Unsaid, CallBegin, CallArguments, CallEnd, Unsaid, Unsaid]


def test_thoughts_come_first_and_only_where_the_format_has_them():
    assert say("<think>\nhm\n</think>\n\nyes", QWEN3) == [["thought", "hm"], ["said", "yes"]]
    assert say("hm\n</think>\n\nyes", QWEN3, in_thought=True) == [["thought", "hm"], ["said", "yes"]]
    assert say("<think>\n\n</think>\n\nyes", QWEN3) == [["said", "yes"]]
    assert say("yes <think>no</think>", QWEN3) == [["said", "yes <think>no</think>"]]
    assert say("<think>cut off\n", QWEN3) == [["thought", "cut off\n"]]
    assert say("<think>a</think>", TELECHAT2) == [["said", "<think>a</think>"]]
    assert QWEN3.begins_in_thought("...assistant\n<think>\n") and not TELECHAT2.begins_in_thought("<think>\n")


def test_without_tools_a_tag_is_prose():
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert say(text, calls=False) == [["said", text]]


def test_golden_answers_stream_as_they_are_read_whole():
    for row in map(json.loads, shared("golden/templates/telechat2.tool_calls.jsonl").read_text().split("\n")[:-1]):
        said = say(row["message"])
        whole = parse_answer(row["message"])
        assert "".join(one[1] for one in said if one[0] == "said") == (whole.content if whole.content.strip() else "")
        assert [(one[1], json.loads(one[2])) for one in said if one[0] == "call"] == [(made.name, made.arguments) for made in whole.calls]


@pytest.mark.parametrize("name", ["telechat2", "qwen3"])
def test_ids_of_control_tokens_are_read_as_tags(name):
    tokenizer = small_tokenizer(name)
    form = answer_format(tokenizer.chat_format)
    answer = Message(role="assistant", content="好。", tool_calls=[ToolCall(name="查", arguments={"城": "上😀海"})])
    ids = [
        one for segment in tokenizer.render([Message(role="user", content="?"), answer]).segments if segment.trained for one in segment.ids
    ]
    decoder, stream = IncrementalDecoder(tokenizer, shown=form.tags), AnswerStream(form)
    events = [event for token in ids for event in stream.push(decoder.push(token))]
    events += [*stream.push(decoder.finish()), *stream.finish()]
    assert merged(events) == [["said", "好。"], call("查", '{"城": "上😀海"}')]
    assert tokenizer.decode(ids, shown=form.tags) == "".join(event.source for event in events)
