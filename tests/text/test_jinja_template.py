"""Chat templates that come with checkpoints: the library's text, ids that nobody can type, and programs that mean harm."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils as utils

from beichen.errors import TemplateError
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.chat_jinja import to_jinja
from beichen.text.chat_template import chat_template, template_names
from beichen.text.messages import Message, ToolCall
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.text.vocabulary_folder import JINJA_FILE
from tests.text.trained import sentences

# Every control token that any family of ours has, in one vocabulary.
FORMATS = [chat_template(name) for name in template_names()]
SPECIALS = tuple(
    dict.fromkeys(
        [
            *(name for form in FORMATS for name in (*form.specials, *form.optional_specials, *form.recognised_by, *form.stop)),
            *("<_unk>", "<_pad>", "<_sep>", "<unk>", "<pad>", "<|endoftext|>", "[PAD]", "[SEP]"),
            *("<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|end|>"),
        ]
    )
)

# Programs in the manners of published ones, in words of ours.
PROGRAMS = {
    "sums": "{% for m in messages %}{% set c = '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' %}"
    "{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "role inside the name": "{% for m in messages %}{{ '<|' + m.role + '|>' ~ m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    "plain text and tests": "{%- for m in messages -%}{%- if m.role == 'user' and not m.content.startswith('<tool_response>') -%}"
    "<_user>{{ m.content }}{%- elif m.role in ['assistant'] -%}<_bot>{{ m.content.split('</think>')[-1] }}"
    "{%- for call in m.tool_calls or [] -%}{{ '<tool_call>' }}{{ call | tojson }}</tool_call>{%- endfor -%}{{ eos_token }}"
    "{%- else -%}{{ m.content }}{%- endif -%}{%- endfor -%}{%- if tools -%}{{ tools | tojson(indent=2) }}{%- endif -%}"
    "{%- if add_generation_prompt -%}<_bot>{%- endif -%}",
    "macros and blocks": "{% macro turn(name, text) %}<_{{ name }}>{{ text }}<_end>{% endmacro %}{% set head %}<_system>{% endset %}"
    "{{ head }}{% for m in messages %}{{ turn('user' if m.role == 'user' else 'bot', m.content) }}{% endfor %}"
    "{% if add_generation_prompt %}<_bot>{% endif %}",
    "loops that end early": "{% for m in messages %}{% if loop.index0 > 2 %}{% break %}{% endif %}[BOS]{{ m.role }} "
    "{{ m.content | upper }}[EOS]{% endfor %}",
    "namespaces and joins": "{% set ns = namespace(text='<s>') %}{% for m in messages %}"
    "{% set ns.text = ns.text ~ ['<_sep>', m.content, '</s>'] | join('') %}{% endfor %}{{ ns.text }}",
}  # fmt: skip


def tokenizer_with(program: str) -> Tokenizer:
    """One vocabulary, whose folder holds this program."""
    made = VOCABULARY.with_template("telechat2")
    files = {**made._files, JINJA_FILE: program.encode()}
    files["tokenizer_config.json"] = b'{"bos_token": "<_start>", "eos_token": "<_end>", "pad_token": "<_pad>"}'
    return Tokenizer(files, origin="folder")


VOCABULARY = train_tokenizer(sentences(300), vocab_size=460, special_tokens=SPECIALS)
CONTROL = set(VOCABULARY.special_ids.values())
OURS = {name: tokenizer_with(program) for name, program in PROGRAMS.items()}


def contents() -> st.SearchStrategy[str]:
    parts = [*SPECIALS, *(name[:-1] for name in SPECIALS), *(name[1:] for name in SPECIALS), "a", " ", "\n", "你好", "{{ 1 }}", "{% if"]
    return st.lists(st.sampled_from(parts), max_size=6).map("".join)


def dialogue(text: str, *, calls: bool = True) -> list[Message]:
    """The same text in every role and in a call's name and arguments."""
    call = [ToolCall(name=text or "f", arguments={text: [text, {"in": text}]})] if calls else []
    return [
        Message(role="system", content=text), Message(role="user", content=text), Message(role="assistant", content=text, tool_calls=call),
        *([Message(role="tool", content=text)] if calls else []), Message(role="user", content=text),
    ]  # fmt: skip


def schema(text: str) -> tuple[dict, ...]:
    return ({"type": "function", "function": {"name": text, "description": text, "parameters": {text: text}}},)


@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=40)
@given(text=contents())
def test_text_is_the_library_s(name, text):
    messages = dialogue(text, calls=name == "plain text and tests")
    told: list[dict[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in messages]
    for value, turn in zip(told, messages, strict=True):
        if turn.tool_calls:
            call = turn.tool_calls[0]
            value["tool_calls"] = [{"type": "function", "function": {"name": call.name, "arguments": call.arguments}}]
    (theirs,), _ = utils.render_jinja_template(
        [told], tools=list(schema(text)), chat_template=PROGRAMS[name], add_generation_prompt=True, bos_token="<_start>", eos_token="<_end>"
    )
    assert OURS[name].render_text(messages, schema(text), True) == theirs


@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=40)
@given(text=contents())
def test_typed_control_tokens_stay_text_or_are_refused(name, text):
    """The control tokens of a rendering are those of the same dialogue with a harmless word in every place."""
    with_calls = name == "plain text and tests"
    harmless = OURS[name].render(dialogue("x", calls=with_calls), schema("x"), True).ids
    try:
        ids = OURS[name].render(dialogue(text, calls=with_calls), schema(text), True).ids
    except TemplateError as refused:
        assert "out of several parts" in str(refused)
        return
    assert [token for token in ids if token in CONTROL] == [token for token in harmless if token in CONTROL]


@pytest.mark.parametrize("special", SPECIALS)
def test_every_control_token_of_every_family_in_every_place(special):
    """All programs of ours too, as they are written for other software and read back from a folder."""
    for name in template_names():
        form = chat_template(name)
        calls, tools = form.call is not None, schema(special) if form.system_with_tools is not None else ()
        ours = VOCABULARY.with_template(name)
        for text in (special, f"a{special}{special}b", special + "\n"):
            typed, plain = dialogue(text, calls=calls), dialogue("x", calls=calls)
            if not form.takes_system:
                typed, plain = typed[1:], plain[1:]
            if form.thinking is not None and "think" in special:  # an assistant's thought is structure, not text
                continue
            found = ours.render(typed, tools, True).ids
            expected = ours.render(plain, schema("x") if tools else (), True).ids
            assert [token for token in found if token in CONTROL] == [token for token in expected if token in CONTROL], name


@pytest.mark.parametrize("name", [name for name in template_names() if chat_template(name).earlier_answer is None])
def test_our_formats_as_programs_give_our_ids(name):
    """What we write into folders for other software gives, run here, the ids of the format itself, and the same mask."""
    form, ours = chat_template(name), VOCABULARY.with_template(name)
    theirs = tokenizer_with(to_jinja(form))
    assert theirs.template == "jinja"
    messages = dialogue("你好 <_end>", calls=form.call is not None)
    messages = messages if form.takes_system else messages[1:]
    for prompt, some in ((True, messages), (False, [*messages, Message(role="assistant", content="好。")])):
        if form.thinking is not None and not prompt:
            continue  # its history is written anew as the dialogue goes on: nothing says what is learnt
        first, second = ours.render(some, (), prompt), theirs.render(some, (), prompt)
        assert second.ids == first.ids or form.joined
        if not prompt and not form.joined:
            assert second.loss_mask == first.loss_mask


def test_answers_are_trained_where_the_program_says_so():
    program = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<_bot>{% generation %}{{ m.content }}<_end>{% endgeneration %}"
        "{% else %}<_user>{{ m.content }}{% endif %}{% endfor %}"
    )
    ours = tokenizer_with(program)
    turns = [{"role": "user", "content": "问"}, {"role": "assistant", "content": "答"}] * 2
    rendered = ours.render(turns)
    trained = [ours.decode(part.ids, skip_special=False) for part in rendered.segments if part.trained]
    assert trained == ["答<_end>", "答<_end>"]
    assert ours.decode(rendered.ids, skip_special=False) == ours.render_text(turns) == "<_user>问<_bot>答<_end>" * 2


def test_a_program_that_rewrites_history_cannot_be_trained_with():
    program = "{% for m in messages %}{{ m.role }}{% if loop.last %}!{% endif %}{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match="message 1: the template writes this answer otherwise than it asks for it"):
        tokenizer_with(program).render([Message(role="user", content="q"), Message(role="assistant", content="a")] * 2)


def test_allowing_control_tokens_is_an_explicit_switch():
    ours = OURS["plain text and tests"]
    question = [Message(role="user", content="a<_end>b")]
    assert VOCABULARY.special_ids["<_end>"] not in ours.render(question).ids
    assert VOCABULARY.special_ids["<_end>"] in ours.render(question, allow_special=True).ids


@pytest.mark.parametrize(
    "program",
    [
        "{{ '<_end' + messages[0].content }}",  # closes a name that the program opened
        "{{ messages[0].content + '_end>' }}",
        "{{ ('<_END>' | lower) }}",  # makes a name by other means
        "{{ messages[0].content | lower }}",  # what was typed becomes a name
    ],
)
def test_names_made_of_several_parts_are_refused_or_text(program):
    for typed in (">", "<", "<_END>", "_end>", "<_"):
        ours = tokenizer_with(program)
        try:
            ids = ours.render([Message(role="user", content=typed)]).ids
        except TemplateError as refused:
            assert "the control token <_end>" in str(refused)
        else:
            assert not CONTROL & set(ids)


HOSTILE = {
    "attributes": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "attributes by filter": "{{ messages | attr('__class__') }}",
    "functions": "{{ raise_exception.__globals__['time'] }}",
    "format": "{{ '{0.__class__}'.format(messages) }}",
    "changing what it was given": "{{ messages.append(1) }}",
    "files": "{% include 'other' %}",
    "imports": "{% import 'os' as os %}",
    "loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
    "ranges": "{{ range(10 ** 9) | list }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "long text": "{{ 'a' * 10 ** 10 }}",
    "long numbers": "{{ 9 ** (9 ** 9) }}",
    "doubling": "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by ~": "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by join": "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "growing by filter": "{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x | replace('a', ns.x) %}{% endfor %}",
    "growing by method": "{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    "padding": "{{ 'a'.ljust(10 ** 9) }}",
    "padding by format": "{{ '%1000000000d' % 1 }}",
    "padding by filter": "{{ 'a' | center(10 ** 9) }}",
    "much output": "{% for i in range(90000) %}{{ 'a' * 1000 }}{% endfor %}",
    "deep nesting": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "not Jinja": "{% if %}",
    "long source": "a" * 300_000,
    "unknown names": "{{ messages[0].content.unknown.more }}",
    "its own refusal": "{{ raise_exception('roles must alternate') }}",
}  # fmt: skip


@pytest.mark.parametrize("program", HOSTILE.values(), ids=HOSTILE)
def test_programs_that_mean_harm_are_refused_by_name_and_soon(program):
    started = time.process_time()
    with pytest.raises(TemplateError, match="folder: the chat template"):
        tokenizer_with(program).render([Message(role="user", content="q")])
    assert time.process_time() - started < 10


def test_what_a_folder_says_comes_first_and_a_name_before_all(tmp_path):
    VOCABULARY.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<_end>"}')
    assert read_tokenizer(tmp_path, default_template="ndl").template == "ndl"
    assert read_tokenizer(tmp_path, default_template="telechat2").template == "telechat2-115b"  # as the vocabulary says
    (tmp_path / JINJA_FILE).write_text(PROGRAMS["sums"])
    assert read_tokenizer(tmp_path).template == "jinja"
    assert read_tokenizer(tmp_path, default_template="telechat2").template == "jinja"  # its publisher meant another prompt
    (tmp_path / JINJA_FILE).write_text(to_jinja(chat_template("telechat2-bare")))
    assert read_tokenizer(tmp_path, default_template="telechat2-bare").template == "telechat2-bare"
    chosen = read_tokenizer(tmp_path, template="ndl")
    assert chosen.template == "ndl" and chosen.with_template("jinja").template == "jinja"
    chosen.save(tmp_path / "saved")
    assert read_tokenizer(tmp_path / "saved", default_template="telechat2").template == "ndl"
    (tmp_path / JINJA_FILE).unlink()
    with pytest.raises(TemplateError, match="holds no Jinja program"):
        read_tokenizer(tmp_path, template="jinja")
