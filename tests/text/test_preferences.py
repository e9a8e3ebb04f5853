"""Preference data: every published form becomes a prompt with two answers, or a dialogue that is good or not; the rest is refused."""

import json
import re

import pytest

from beichen.errors import DataError
from beichen.text.messages import Preference, RatedDialogue
from beichen.text.preferences import chosen_dialogue, read_preference
from tests.shared_data import shared

USER, GOOD, BAD = {"role": "user", "content": "q"}, {"role": "assistant", "content": "g"}, {"role": "assistant", "content": "b"}
PAIRS = [
    {"instruction": "q", "input": "", "chosen": "g", "rejected": "b"},
    {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "g"},
        "rejected": {"from": "gpt", "value": "b"},
    },
    {"messages": [USER], "chosen": GOOD, "rejected": BAD},
    {"prompt": "q", "chosen": "g", "rejected": "b"},
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"chosen_messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
]
RATED = [
    {"messages": [USER, GOOD], "label": True},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "g"}], "kto_tag": True},
    {"instruction": "q", "output": "g", "label": True},
    {"prompt": "q", "completion": "g", "label": True},
]


def said(messages):
    return [(message.role, message.content) for message in messages]


@pytest.mark.parametrize("record", PAIRS)
def test_every_form_of_a_pair_is_read(record):
    found = read_preference(record, "f:3")
    assert isinstance(found, Preference) and found.origin == "f:3"
    assert [said(found.prompt), said(found.chosen), said(found.rejected)] == [[("user", "q")], [("assistant", "g")], [("assistant", "b")]]
    assert said(chosen_dialogue(found).messages) == [("user", "q"), ("assistant", "g")]


@pytest.mark.parametrize("record", RATED)
@pytest.mark.parametrize("good", [True, False])
def test_every_form_of_a_rating_is_read(record, good):
    record = {key: good if value is True else value for key, value in record.items()}
    found = read_preference(record, "f:3")
    assert isinstance(found, RatedDialogue)
    assert (said(found.messages), found.good) == ([("user", "q"), ("assistant", "g")], good)
    if not good:
        with pytest.raises(DataError, match="called bad"):
            chosen_dialogue(found)


REFUSED = [
    ({"messages": [USER, GOOD]}, "no preference data"),
    ({"messages": [USER, GOOD], "kto_tag": "yes"}, "'kto_tag' is 'yes', expected true or false"),
    ({"chosen": [USER, GOOD], "rejected": [{"role": "user", "content": "other"}, BAD]}, "differ elsewhere than in the assistant's answer"),
    ({"prompt": "q", "chosen": "g", "rejected": ""}, "the rejected side: turn 1 (assistant): the content is empty"),
    ({"prompt": "q", "chosen": "g"}, "there is no rejected answer"),
    ({"prompt": "q", "chosen": "g", "rejected": "g"}, "are the same"),
    ({"prompt": "q", "chosen": "g", "rejected": "b", "images": ["a.png"]}, "multimodal"),
    ({"question": "q", "kto_tag": True}, "preference data of no known schema"),
]


@pytest.mark.parametrize(("record", "words"), REFUSED)
def test_refusals_name_place_and_reason(record, words):
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read_preference(record, "data.jsonl:12")
    assert str(caught.value).startswith("data.jsonl:12: ")


@pytest.mark.parametrize(
    ("path", "count", "good"),
    [("dpo_zh_demo.json", 149, 0), ("dpo_en_demo.json", 81, 0), ("v1_dpo_demo.jsonl", 10, 0), ("kto_en_demo.json", 135, 72)],
)
def test_published_files_are_read_whole(path, count, good):
    text = shared(f"data/sft/llamafactory/{path}").read_text()
    records = json.loads(text) if path.endswith(".json") else [json.loads(line) for line in text.split("\n") if line]
    found = [read_preference(record, path) for record in records]
    assert (len(found), sum(isinstance(one, RatedDialogue) and one.good for one in found)) == (count, good)
    assert all(one.prompt[-1].role == "user" for one in found if isinstance(one, Preference))


def test_broken_pairs_are_refused():
    lines = shared("data/sft/broken/broken_dpo.jsonl").read_text().splitlines()
    reasons = []
    for line in lines:
        try:
            reasons.append(str(read_preference(json.loads(line), "f")) and "read")
        except DataError as fault:
            reasons.append(fault.args[0].split(": ", 1)[1])
    assert reasons[0] == "read"
    assert [reason.split(" (schema")[0] for reason in reasons[1:]] == [
        "the chosen and the rejected answer are the same", "there is no rejected answer",
        "the chosen side: turn 1 (assistant): the content is empty",
    ]  # fmt: skip
