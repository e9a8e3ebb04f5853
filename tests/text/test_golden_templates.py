"""Prompts of every generation against the original's: ids and, where there are some, loss masks."""

import json
from collections.abc import Sequence
from typing import ClassVar

import pytest

from beichen.errors import TemplateError
from beichen.text.chat import message_from_mapping
from beichen.text.chat_template import chat_template
from beichen.text.prompts import last_turns
from tests.shared_data import SHARED, shared
from tests.text.agreement import golden_tokenizer, rows

FOLDER = SHARED / "golden/templates"


def golden(name: str, template: str):
    shared("golden/templates")
    return golden_tokenizer(name, template)


def chat_rows(name: str) -> list[dict]:
    return [*rows(shared(f"golden/templates/{name}.jsonl"))]


# What the original drops without a word, and we refuse or read as what it says; text that looks like a control token; and
# questions that alone are longer than the budget, which the original cuts in the middle (faults T-1 to T-3).
DROPPED, READ, TYPED, TOO_LONG = "system_ignored", "assistant_role_ignored", "lookalike", "long_question_max_length"


@pytest.mark.parametrize(
    ("name", "tokenizer", "template"),
    [("telechat-12b", "telechat-12b", "telechat"), ("telechat2-115b", "telechat2-115b", "telechat2-115b")],
)
def test_prompts_built_from_ids(name, tokenizer, template):
    ours = golden(tokenizer, template)
    equal = 0
    for row in chat_rows(f"{name}.chat"):
        messages = [message_from_mapping(0, value) for value in (*row["history"], {"role": "user", "content": row["question"]})]
        if row["name"] == DROPPED:
            with pytest.raises(TemplateError, match="has no system turn"):
                ours.render(messages, add_generation_prompt=True)
            continue

        def prompt(some: Sequence, **options: bool) -> list[int]:
            return ours.render(some, add_generation_prompt=True, **options).ids

        ids, dropped = last_turns(messages, prompt, row["budget"])
        if row["name"] == TOO_LONG:
            assert dropped is None and row["over_budget"]
            continue
        assert len(ids) <= row["budget"]
        if row["name"] == TYPED:
            assert ids != row["ids"] == prompt(messages, allow_special=True)
        elif row["name"] == READ:
            assert len(ids) > len(row["ids"])
        elif row.get("fault"):
            assert ids == row["ids_running_budget"] or len(ids) < len(row["ids"])  # whole turns, where the original cuts one of two
        else:
            assert ids == row["ids"]
            equal += 1
    assert equal == 11


def test_telechat_7b_by_structure():
    """Its tokenizer is not to be had: one character is one id here, and role and end ids are the real ones."""

    class Stub:
        special_ids: ClassVar = {"<_user>": 160130, "<_bot>": 160131, "<_end>": 160133}
        inline_ids: frozenset[int] = frozenset()

        def encode(self, text, *, allow_special=False, continues=False):
            return [300000 + ord(character) for character in text]

        def token_bytes(self, token):
            return chr(token - 300000).encode()

    from beichen.text.chat import render

    equal = 0
    for row in chat_rows("telechat-7b.chat"):
        messages = [message_from_mapping(0, value) for value in (*row["history"], {"role": "user", "content": row["question"]})]
        if row["name"] in (DROPPED, READ, TYPED) or row.get("over_budget"):
            continue

        def prompt(some: Sequence) -> list[int]:
            return render(chat_template("telechat"), Stub(), some, add_generation_prompt=True).ids

        assert last_turns(messages, prompt, row["budget"])[0] == row["ids"]
        equal += 1
    assert equal >= 11


def test_telechat_52b_as_one_text():
    ours = golden("telechat-52b", "telechat52b")
    found = chat_rows("telechat-52b.chat")
    for row in found:
        turns = [turn for pair in zip(row["history_inputs"], row["history_outputs"], strict=True) for turn in pair] + [row["question"]]
        messages = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(turns)]
        assert ours.render(messages, add_generation_prompt=True).ids == row["ids"]
        assert ours.render_text(messages, add_generation_prompt=True) == row["text"]
    assert len(found) == 8


def test_telechat_52b_trains_as_it_was_tuned():
    """Question and last answer as the original encodes them for tuning, apart and with the end token; only that answer is learnt."""
    ours = golden("telechat-52b", "telechat52b")
    rendered = ours.render([{"role": "user", "content": "你是谁"}, {"role": "assistant", "content": "我是telechat"}])
    assert rendered.ids == [*ours.encode("<_user>你是谁<_bot>"), *ours.encode("我是telechat"), 2]
    assert [ours.decode(segment.ids) for segment in rendered.segments if segment.trained] == ["我是telechat"]


def test_telechat_52b_as_mindformers_serves_it():
    """K5: the other published form of the same model, from its reserved tokens."""
    ours = golden("telechat-52b", "telechat52b-mindformers")
    ids = ours.render([{"role": "user", "content": "你好"}], add_generation_prompt=True).ids
    assert ids == [27, 25, *ours.encode("你好"), 26]


@pytest.mark.parametrize("name", ["telechat-12b", "telechat-52b"])
def test_prompts_of_the_engine_service(name):
    """For 52B the original's ids; for 12B those of the library that TeleChat pins (K8): ``<_end>`` is one token."""
    ours = golden(name, "telechat-engine")
    equal = 0
    for row in chat_rows("telechat1.vllm_jinja"):
        messages = row["messages"]
        prompt = messages[-1]["role"] == "user"
        if row["name"] == "system_mid":  # the original takes the last system message wherever it stands
            with pytest.raises(TemplateError, match="a system message must come first"):
                ours.render(messages, add_generation_prompt=prompt)
            continue
        assert ours.render_text(messages, add_generation_prompt=prompt) == row["text"]
        typed = ours.render(messages, add_generation_prompt=prompt, allow_special=True).ids
        assert typed == (row["ids_telechat_52b"] if name == "telechat-52b" else ours.encode(row["text"], allow_special=True))
        equal += ours.render(messages, add_generation_prompt=prompt).ids == typed
    assert equal == (14 if name == "telechat-52b" else 13)  # all but the row where a user types control tokens


def test_ndl():
    ours = golden("ndl", "ndl")
    for row in chat_rows("ndl"):
        settings = {"add_generation_prompt": row["add_generation_prompt"]}
        assert ours.render(row["messages"], **settings).ids == row["ids"]
        assert ours.render_text(row["messages"], **settings) == row["text"]
        parsed = row.get("ids_if_content_parsed_for_special_tokens", row["ids"])
        assert ours.render(row["messages"], **settings, allow_special=True).ids == parsed


# Rows of TeleChat2 where the original drops a message in silence, and where it prints arguments quoted twice (fault F-1).
REFUSED = ("system_mid", "tool_first", "unknown_role")


def test_telechat2_ids_and_masks():
    ours = golden("telechat2-7b", "telechat2")
    equal = masks = 0
    for row in chat_rows("telechat2.chat_template"):
        settings = (row["messages"], row["tools"] or (), row["add_generation_prompt"])
        if row["name"] in REFUSED:
            with pytest.raises(TemplateError):
                ours.render(*settings)
            continue
        rendered = ours.render(*settings)
        if row["name"] == "special_lookalike":
            assert rendered.ids != row["ids"] == ours.render(*settings, allow_special=True).ids
        elif row["name"] == "tool_call_str_args":
            assert rendered.ids != row["ids"] and json.dumps({"expr": "2*3"}) in ours.decode(rendered.ids)
        else:
            assert rendered.ids == row["ids"]
            equal += 1
            if "loss_mask_answers_only" in row:
                assert rendered.loss_mask == row["loss_mask_answers_only"]
                masks += 1
    assert (equal, masks) == (23, 12)


def test_the_prompt_that_a_served_telechat2_got():
    told = json.loads(shared("golden/tokenizers/telechat2-7b/derived_from.json").read_text())["published_prompt_ids"]
    ours = golden("telechat2-7b", "telechat2")
    assert ours.render([{"role": "user", "content": "你好"}], add_generation_prompt=True).ids == told["ids"]
    assert ours.decode(told["completion_ids"]) == told["completion_text"].removeprefix(" ")


TYPED_IN = [("ndl", "ndl"), ("telechat-12b", "telechat"), ("telechat-12b", "telechat-engine"), ("telechat-52b", "telechat52b"),
            ("telechat-52b", "telechat52b-mindformers"), ("telechat2-115b", "telechat2-115b"), ("telechat2-7b", "telechat2")]  # fmt: skip


@pytest.mark.parametrize(("name", "template"), TYPED_IN, ids=[template for _, template in TYPED_IN])
def test_no_control_token_of_a_published_vocabulary_can_be_typed(name, template):
    """Each of them, and all at once, in every role, in a call's name and arguments, in results and in schemas of tools."""
    ours, form = golden(name, template), chat_template(template)
    control = set(ours.special_ids.values())

    def ids(text: str) -> list[int]:
        call = {"name": text, "arguments": {text: [text]}}
        turns = [
            *([{"role": "system", "content": text}] if form.takes_system else []),
            {"role": "user", "content": text},
            *([{"role": "assistant", "content": text, "tool_calls": [call]}, {"role": "tool", "content": text}] if form.call else []),
            {"role": "assistant", "content": text},
            {"role": "user", "content": text},
        ]
        tools = ({"type": "function", "function": {"name": text, "parameters": {text: text}}},) if form.system_with_tools else ()
        return [token for token in ours.render(turns, tools, True).ids if token in control]

    harmless = ids("x")
    for text in (*ours.special_ids, "".join(ours.special_ids)):
        assert ids(text) == harmless, text
