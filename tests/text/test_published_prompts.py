"""Prompts of Llama and Qwen as their published Jinja programs write them, run once by transformers 5.23.0 on dialogues of ours."""

import json
from pathlib import Path

import pytest

from beichen.text.chat import message_from_mapping, render_text
from beichen.text.chat_template import chat_template

ROWS = [json.loads(line) for line in Path(__file__).with_name("published_prompts.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['format']}-{'-'.join(turn['role'] for turn in row['messages'])}")
def test_our_formats_write_the_published_prompts(row):
    messages = [message_from_mapping(place, value) for place, value in enumerate(row["messages"])]
    options = {name: row[name] for name in ("tools", "add_generation_prompt", "thinking")}
    assert render_text(chat_template(row["format"]), messages, **options) == row["text"]


def test_the_family_s_own_name_is_its_newest_common_format():
    question = [message_from_mapping(0, {"role": "user", "content": "hi"})]
    for family, newest in (("llama", "llama3"), ("qwen", "qwen2.5")):
        assert render_text(chat_template(family), question) == render_text(chat_template(newest), question)
