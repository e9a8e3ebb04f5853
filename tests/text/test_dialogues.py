import json
import re
from collections import Counter

import pytest

from beichen.errors import DataError
from beichen.text.chat import render_text
from beichen.text.chat_template import chat_template
from beichen.text.dialogue_schemas import SCHEMAS
from beichen.text.dialogues import read_dialogue, schema_of
from tests.shared_data import shared

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TURNS = [("user", "问"), ("assistant", "答")]


def said(key: str, value: str, *turns: tuple[str, object]) -> list[dict]:
    """Turns as records spell them."""
    return [{key: who, value: what} for who, what in turns]


def chat(*turns: tuple[str, object]) -> dict:
    return {"messages": said("role", "content", *turns)}


GOOD = [
    (
        "telechat2",
        {"system": "你好\n", "dialog": said("role", "content", ("user", "问"), ("bot", "答")), "id": 3},
        [("system", "你好"), *TURNS],
    ),
    ("telechat2", {"dialog": said("role", "content", ("user", "<_bot>x<_end>"), ("bot", "答"))}, [("user", "<_bot>x<_end>"), TURNS[1]]),
    ("telechat1", {"input": "<_user>问", "output": "答"}, TURNS),
    ("telechat1", {"input": "问", "output": "<_bot>答<_end>"}, TURNS),
    ("telechat1", {"input": "<_user>问<_bot>答<_end><_user>问", "output": "答"}, TURNS * 2),
    ("telechat_one_field", {"input": "<_user>问<_bot>答<_user>问<_bot>答<_end>"}, TURNS * 2),
    ("messages", chat(("user", "问"), ("assistant", [{"type": "text", "value": "答"}])), TURNS),
    ("conversations", {"conversations": said("from", "value", ("human", "问"), ("gpt", "答")), "system": "s"}, [("system", "s"), *TURNS]),
    ("telechat2_tutorial", {"conversation": said("role", "content", ("user", "问"), ("bot", "答"))}, TURNS),
    ("alpaca", {"instruction": "译", "input": "问", "output": "答"}, [("user", "译\n问"), TURNS[1]]),
    ("alpaca", {"instruction": "问", "input": "", "output": "答", "history": [["问", "答"]]}, TURNS * 2),
]


@pytest.mark.parametrize(("schema", "record", "turns"), GOOD)
def test_every_schema_is_known_by_its_keys_and_read(schema, record, turns):
    assert schema_of(record) == schema
    dialogue = read_dialogue(record, "file:7")
    assert [(message.role, message.content) for message in dialogue.messages] == turns
    assert dialogue.origin == "file:7"


def test_every_schema_has_an_example():
    assert {schema for schema, *_ in GOOD} == set(SCHEMAS)


def tool_turns(dialogue) -> list:
    return [
        (message.role, message.content, [(call.name, dict(call.arguments)) for call in message.tool_calls]) for message in dialogue.messages
    ]


def test_tool_calls_become_structure_in_every_schema():
    tool = {"type": "function", "function": {"name": "f"}}
    expected = [("user", "q", []), ("assistant", "", [("f", {"a": 1})]), ("tool", "r", []), ("assistant", "a", [])]
    block = chat_template("telechat2").system_with_tools or ""
    system = block.removeprefix("<_system>").replace("{{content}}", "s").replace("{{tools}}", json.dumps(tool))
    dialog = said("role", "content", ("user", "q"), ("bot", CALL), ("user", "<tool_response>\nr\n</tool_response>"), ("bot", "a"))
    telechat2 = {"system": system, "dialog": dialog}
    call = {"name": "f", "arguments": {"a": 1}}
    sharegpt = {
        "tools": json.dumps([tool["function"]]),
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "r"},
            {"from": "gpt", "value": "a"},
        ],
    }
    messages = {
        "tools": [tool],
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": call}]},
            {"role": "tool", "content": "r"},
            {"role": "assistant", "content": "a"},
        ],
    }
    tutorial = {
        "tools": json.dumps([tool]),
        "conversation": [
            {"role": "user", "content": "q"},
            {"role": "bot", "content": "", "tool_calls": json.dumps([{"type": "function", "function": call}])},
            {"role": "tool", "content": "r"},
            {"role": "bot", "content": "a"},
        ],
    }
    for record, turns in (
        (telechat2, [("system", "s", []), *expected]),
        (sharegpt, expected),
        (messages, expected),
        (tutorial, expected),
    ):
        dialogue = read_dialogue(record, "f:1")
        assert tool_turns(dialogue) == turns
        assert list(dialogue.tools) == [tool]
    read = read_dialogue(telechat2, "f:1")
    published = f"<_system>{system}<_user>q<_bot>{CALL}<_end>\n<_user><tool_response>\nr\n</tool_response><_bot>a<_end>\n"
    assert render_text(chat_template("telechat2"), read.messages, tools=read.tools) == published


BAD = [
    ({"conversations": [], "chosen": {}, "rejected": {}}, "preference data (keys chosen, rejected)"),
    ({"messages": [], "label": False}, "preference data (keys label)"),
    ({"messages": [], "images": ["a.jpg"]}, "multimodal record (key images)"),
    ({"instruction": "<image>是谁？", "output": "a"}, "multimodal: a turn holds"),
    ({"a": {"file_name": "a.json"}, "b": {"hf_hub_url": "x/y"}}, "an index of data sets"),
    ({"single.jsonl": 2.0, "multi.jsonl": 1.0}, "a mixture (file: weight)"),
    ({"text": "t"}, "plain text for pretraining"),
    (
        {"question": "q", "reply": "a"},
        "no dialogue schema has these keys: question, reply\n  remedy: known schemas: telechat2 (system, dialog",
    ),
    ([], "a list, expected an object"),
    ({"input": "问"}, "these are prompts"),
    (chat(("user", "q")), "no answer"),
    (chat(("user", "q"), ("assistant", "a"), ("user", "q")), "turn 2 (user): the dialogue ends without an answer"),
    (chat(("assistant", "a")), "turn 0 (assistant): the answer comes before any question"),
    (chat(("user", "q"), ("assistant", "a"), ("assistant", "b")), "two answers in a row"),
    (chat(("user", "q"), ("system", "s"), ("assistant", "a")), "a system turn must come first"),
    (
        chat(("user", "q"), ("assistant", [{"type": "text", "text": "a"}, {"type": "reasoning", "value": "r"}])),
        "type 'reasoning' behind the",
    ),
    (chat(("user", [{"type": "image_url", "image_url": {}}]), ("assistant", "a")), "multimodal: a content part of type 'image_url'"),
    ({"messages": [{"role": "user", "content": "q", "reasoning_content": "r"}]}, "only the assistant thinks"),
    ({"conversation": [{"role": "bot", "content": "", "tool_calls": "["}]}, "'tool_calls' is text, but not JSON"),
    (chat(("usr", "q")), "unknown role 'usr' (did you mean 'user'?)"),
    ({"messages": [{"role": "assistant", "content": "a", "loss_weight": -0.5}]}, "loss weight -0.5"),
    ({"messages": ["q"]}, "turn 0 of 'messages' is a string"),
    ({"instruction": "I am {{name}}", "output": "{{ author }}"}, "the placeholder {{name}} is not filled in"),
    ({"instruction": "q", "output": "a", "history": ["qa"]}, "'history' must be"),
    ({"conversations": said("from", "value", ("human", "q"), ("gpt", "a")), "tools": "{"}, "'tools' is text, but not JSON"),
]


@pytest.mark.parametrize(("record", "words"), BAD)
def test_refusals_name_place_and_reason(record, words):
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read_dialogue(record, "data.jsonl:12")
    assert str(caught.value).startswith("data.jsonl:12: ")


def test_a_schema_that_is_named_is_not_guessed():
    record = {"input": "q", "output": "a", "instruction": "i"}
    assert schema_of(record) == "alpaca"
    assert read_dialogue(record, "f:1", schema="telechat1").messages[0].content == "q"
    with pytest.raises(DataError, match="no dialogue schema is called 'telechat3'"):
        read_dialogue(record, "f:1", schema="telechat3")


def test_placeholders_are_filled_in_where_values_are_given():
    record = {"instruction": "who?", "output": "I am {{name}} by {{ author }}."}
    assert read_dialogue(record, "f:1", placeholders={"name": "N", "author": "A"}).messages[1].content == "I am N by A."


def test_thoughts_are_kept_apart_from_answers():
    parts = [{"type": "reasoning", "value": "hm"}, {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'}]
    field = {"role": "assistant", "content": "a", "reasoning_content": "so"}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": parts}, {"role": "tool", "content": "r"}, field]
    read = read_dialogue({"messages": turns}, "f:1").messages
    assert [(message.thinking, message.content, len(message.tool_calls)) for message in read[1::2]] == [("hm", "", 1), ("so", "a", 0)]


def test_weights_of_turns_are_kept():
    turns = [{"role": "user", "content": "q", "loss_weight": 0.0}, {"role": "assistant", "content": "a", "loss_weight": 0.0}]
    assert [message.weight for message in read_dialogue({"messages": turns}, "f:1").messages] == [None, 0.0]


def outcomes(path: str) -> list[str | None]:
    """For each record of a published file: None when it was read, else the reason."""
    text = shared(f"data/sft/{path}").read_text()
    records = (
        json.loads(text) if path.endswith(".json") else [json.loads(line) for line in text.split("\n") if line and "截断的一行" not in line]
    )
    found: list[str | None] = []
    for place, record in enumerate(records, start=1):
        try:
            read_dialogue(record, f"{path}:{place}")
            found.append(None)
        except DataError as fault:
            found.append(str(fault))
    return found


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("telechat2/dummy_sft_code.jsonl", 50),
        ("telechat2/dummy_sft_math.jsonl", 50),
        ("telechat2/dummy_sft_multi.jsonl", 364),
        ("telechat2/dummy_sft_role.jsonl", 50),
        ("telechat2/dummy_sft_single.jsonl", 100),
        ("telechat2/dummy_sft_tool.jsonl", 303),
        ("telechat2/demo_role_extra_keys.jsonl", 50),
        ("telechat1/single_turn_example.jsonl", 799),
        ("telechat1/multi_turn_example.jsonl", 412),
        ("mindformers/telechat_one_field.jsonl", 120),
        ("cwxndl/cwxndl_ner.json", 2400),
        ("llamafactory/alpaca_zh_demo.json", 647),
        ("llamafactory/alpaca_en_demo.json", 492),
        ("llamafactory/glaive_toolcall_zh_demo.json", 193),
        ("llamafactory/glaive_toolcall_en_demo.json", 171),
        ("llamafactory/reason_tool_use_demo_50.jsonl", 28),
    ],
)
def test_published_files_are_read_whole(path, count):
    assert outcomes(path) == [None] * count


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("llamafactory/dpo_zh_demo.json", "preference data"),
        ("llamafactory/dpo_en_demo.json", "preference data"),
        ("llamafactory/kto_en_demo.json", "preference data"),
        ("llamafactory/v1_dpo_demo.jsonl", "preference data"),
        ("llamafactory/mllm_demo.json", "multimodal"),
        ("llamafactory/c4_demo.jsonl", "plain text"),
        ("telechat1/test_prompts.jsonl", "prompts"),
        ("telechat2/pretrain_example.jsonl", "plain text"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(path, reason):
    found = outcomes(path)
    assert found
    assert all(outcome is not None and reason in outcome for outcome in found)


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("broken_telechat2_roles.jsonl", {1, 13, 14}),
        ("broken_telechat1_input_output.jsonl", {1}),
        ("broken_one_field.jsonl", {1, 7}),
        ("broken_sharegpt.json", {1, 2}),
        ("broken_dpo.jsonl", set()),
    ],
)
def test_broken_records_are_refused_and_good_ones_beside_them_read(path, good):
    assert {place for place, outcome in enumerate(outcomes(f"broken/{path}"), start=1) if outcome is None} == good


def test_tool_samples_render_as_they_were_published():
    """System, calls and responses go through structure and come back as the same text; where not, a call was mended."""
    form = chat_template("telechat2")
    same: Counter[bool] = Counter()
    for line in shared("data/sft/telechat2/dummy_sft_tool.jsonl").read_text().split("\n")[:-1]:
        record = json.loads(line)
        dialogue = read_dialogue(record, "f")
        marks = {"user": ("<_user>", ""), "bot": ("<_bot>", "<_end>\n")}
        turns = "".join(marks[turn["role"]][0] + turn["content"] + marks[turn["role"]][1] for turn in record["dialog"])
        same[render_text(form, dialogue.messages, tools=dialogue.tools) == f"<_system>{record['system']}{turns}"] += 1
    assert same == {True: 214, False: 89}
