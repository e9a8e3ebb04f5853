"""The format of answers is what the chat template writes, ours or a folder's own program."""

import pytest

from beichen.text.answers.format import AnswerFormat, CallFormat, answer_format
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import chat_template, template_from_dict, template_names
from beichen.text.jinja_template import JinjaTemplate


@pytest.mark.parametrize("name", template_names())
def test_a_program_that_writes_the_same_has_the_same_format(name):
    template = chat_template(name)
    program = JinjaTemplate(to_jinja(template), roles={}, origin="folder")
    assert answer_format(program, template.specials) == answer_format(template)


def test_the_formats_that_are_known():
    tagged = {name for name in template_names() if answer_format(chat_template(name)).calls}
    assert {"telechat2", "chatml", "qwen2.5", "qwen3"} <= tagged and not {"telechat", "ndl", "llama3"} & tagged
    assert answer_format(chat_template("qwen3")).tags == ("<think>", "</think>", "<tool_call>", "</tool_call>")
    assert answer_format(chat_template("ndl")) == AnswerFormat()


DATA = {"specials": ["<e>"], "stop": ["<e>"], "user": "{{content}}", "answer_prompt": "a:", "answer": "{{content}}{{calls}}<e>"}


def test_other_tags_and_keys_are_data():
    data = {**DATA, "call": '[CALL] {"parameters": {{arguments}}, "tool": {{name}}} [/CALL]'}
    form = answer_format(template_from_dict("mine", {**data, "thinking": "[T]{{thinking}}[/T]\n", "content_call_separator": "\n"}))
    calls = CallFormat(open="[CALL]", close="[/CALL]", name="tool", arguments="parameters", separator="\n")
    assert form == AnswerFormat(calls=calls, thought=("[T]", "[/T]"))


def test_a_call_without_a_closing_tag_is_closed_by_the_end_of_the_answer():
    template = template_from_dict("mine", {**DATA, "call": '<call>{"name": {{name}}, "parameters": {{arguments}}}'})
    form = answer_format(template)
    assert form == AnswerFormat(calls=CallFormat(open="<call>", close="<e>", arguments="parameters"))
    assert answer_format(JinjaTemplate(to_jinja(template), roles={}, origin="folder"), template.specials) == form


@pytest.mark.parametrize(
    "calls",
    [
        "{% for call in m.tool_calls %}CALL {{ call.function.name }}(){% endfor %}",
        "{{ raise_exception('no calls here') if m.tool_calls }}",
        "",
    ],
)
def test_a_program_whose_calls_are_no_tagged_objects_has_prose_alone(calls):
    source = "{% for m in messages %}<b>{{ m.content }}" + calls + "<e>{% endfor %}"
    assert answer_format(JinjaTemplate(source, roles={}, origin="folder"), ["<b>", "<e>"]) == AnswerFormat()
