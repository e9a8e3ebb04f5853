"""Dialogue files: good records come through in order, bad ones are refused or counted, with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beichen.data.account import Account
from beichen.data.dialogue_files import read_dialogues
from beichen.errors import DataError
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
    with pytest.raises(DataError, match="does not say which format"):
        read_dialogues([tmp_path / "a.txt"])


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
