"""Dialogue files: good records come through in order, bad ones are refused or counted, with file and line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from beichen.data.account import Account
from beichen.data.dialogue_files import read_dialogues, read_preferences, read_samples
from beichen.data.dialogue_settings import DialogueSettings
from beichen.errors import DataError
from beichen.text.messages import Dialogue, Preference, RatedDialogue
from tests.shared_data import shared


def record(number: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"问 {number}\u2028?"}, {"role": "assistant", "content": f"答 {number}"}]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_records_come_in_order_with_their_place(tmp_path: Path, name: str) -> None:
    records = [record(number) for number in range(20)]
    path = tmp_path / name
    path.write_text(
        json.dumps(records) if name == "a.json" else "\n".join(json.dumps(one, ensure_ascii=False) for one in records), encoding="utf-8"
    )
    account = Account(item="dialogues")
    found = list(read_dialogues([path], account=account))
    assert [dialogue.messages[1].content for dialogue in found] == [f"答 {number}" for number in range(20)]
    assert [dialogue.origin for dialogue in found] == [f"{path}:{number}" for number in range(1, 21)]
    account.check()
    assert account.used.items == 20


def test_bad_records_stop_or_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(record(0)), '{"unknown": 1}', "{", json.dumps(record(1))]))
    with pytest.raises(DataError, match=r"a\.jsonl:2: no dialogue schema"):
        list(read_dialogues([path]))
    account = Account(item="dialogues")
    assert len(list(read_dialogues([path], on_bad="count", account=account))) == 2
    assert {reason: tally.items for reason, tally in account.dropped.items()} == {"not a usable dialogue": 1, "not JSON": 1}
    account.check()


def test_no_dialogue_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no dialogues"):
        list(read_dialogues([tmp_path / "a.jsonl"]))
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="plain text for pretraining, not dialogues"):
        read_dialogues([tmp_path / "a.txt"])


def test_every_refusal_says_what_to_do(tmp_path: Path) -> None:
    answer_first = {"messages": [{"role": "assistant", "content": "yes"}]}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (record(1), answer_first)))
    with pytest.raises(DataError, match=r"a\.jsonl:2: turn 0 \(assistant\): the answer comes before any question") as fault:
        list(read_dialogues([tmp_path / "a.jsonl"]))
    assert fault.value.remedy == "correct or remove it; a recipe with data.on_bad: count leaves such records out"
    assert len(list(read_dialogues([tmp_path / "a.jsonl"], on_bad="count"))) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [({"a.jsonl": 1.0, "b.jsonl": 0.5}, "a mixture"), ({"identity": {"file_name": "identity.json"}}, "an index of data sets")],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_what_lists_data_is_refused_as_what_it_is(tmp_path: Path, value: object, said: str, indent: int | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value, indent=indent))
    with pytest.raises(DataError, match=rf"a\.json:1: {said}"):
        list(read_dialogues([tmp_path / "a.json"]))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("telechat2/dummy_sft_single.jsonl", 100),
        ("telechat2/dummy_sft_multi.jsonl", 364),
        ("telechat2/demo_role_extra_keys.jsonl", 50),
        ("cwxndl/cwxndl_ner.json", 2400),
        ("llamafactory/alpaca_zh_demo.json", 647),
    ],
)
def test_published_files_are_read_whole(name: str, count: int) -> None:
    assert sum(1 for _ in read_dialogues([shared(f"data/sft/{name}")])) == count


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("llamafactory/mllm_demo.json", "a multimodal record (key images)"),
        ("llamafactory/dataset_info.json", "an index of data sets"),
        ("llamafactory/c4_demo.jsonl", "plain text for pretraining"),
        ("llamafactory/wiki_demo.txt", "plain text for pretraining"),
        ("telechat2/pretrain_example.jsonl", "plain text for pretraining"),
        ("telechat1/test_prompts.jsonl", "these are prompts"),
        ("telechat1/data.json", "a mixture"),
        ("telechat2/sft_data_config.json", "a mixture"),
        ("broken/broken_weights.json", "a mixture"),
        ("broken/broken_json_array.json", "not a JSON array"),
        ("broken/broken_mixed_schemas.jsonl", "jsonl:2: schema 'telechat1', but"),
        ("llamafactory/dpo_zh_demo.json", "preference data (keys chosen, rejected)"),
        ("llamafactory/identity.json", "the placeholder {{name}} is not filled in"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(name: str, reason: str) -> None:
    path = shared(f"data/sft/{name}")
    with pytest.raises(DataError, match=re.escape(reason)) as caught:
        list(read_dialogues([path]))
    assert str(path) in str(caught.value)


def test_settings_admit_what_is_else_refused() -> None:
    folder = shared("data/sft")
    named = DialogueSettings(placeholders=("name=N", "author=A"))
    assert len(list(read_dialogues([folder / "llamafactory/identity.json"], settings=named))) == 91
    assert len(list(read_dialogues([folder / "llamafactory/v1_sft_demo.jsonl"], settings=named))) == 166
    chosen = DialogueSettings(preferences="chosen")
    found = list(read_dialogues([folder / "llamafactory/dpo_zh_demo.json"], settings=chosen))
    assert len(found) == 149 and found[0].messages[-1].role == "assistant"
    account = Account(item="dialogues")
    assert len(list(read_dialogues([folder / "llamafactory/kto_en_demo.json"], settings=chosen, on_bad="count", account=account))) == 72
    assert account.dropped["not a usable dialogue"].items == 63
    mixed = DialogueSettings(mixed_schemas=True)
    account = Account(item="dialogues")
    path = folder / "broken/broken_mixed_schemas.jsonl"
    assert len(list(read_dialogues([path], settings=mixed, on_bad="count", account=account))) == 4  # the fifth is plain text
    account.check()


def test_preferences_and_samples_are_read_beside_dialogues() -> None:
    folder = shared("data/sft/llamafactory")
    assert len(list(read_preferences([folder / "dpo_en_demo.json", folder / "kto_en_demo.json"]))) == 81 + 135
    kinds = {type(one) for one in read_samples([folder / "dpo_en_demo.json", folder / "kto_en_demo.json", folder / "alpaca_en_demo.json"])}
    assert kinds == {Preference, RatedDialogue, Dialogue}
    with pytest.raises(DataError, match="no preference data"):
        list(read_preferences([folder / "alpaca_en_demo.json"]))


def test_a_single_object_over_several_lines_is_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(record(0), indent=1))
    assert len(list(read_dialogues([tmp_path / "a.json"]))) == 1
    (tmp_path / "b.json").write_text("{\n 1")
    with pytest.raises(DataError, match=r"b\.json:1: not JSON"):
        list(read_dialogues([tmp_path / "b.json"]))
