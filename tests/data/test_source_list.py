"""Laws of sources: TeleChat's weight files as they are, every reader gives the text that its corpus means, all faults are named at once."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from beichen.data.account import Account, BadInput
from beichen.data.files import COMPRESSIONS, FORMATS
from beichen.data.readers import READERS
from beichen.data.records import Record
from beichen.data.source_list import Source, read_source_file, sources_of_paths
from beichen.data.sources import documents_of_records, read_text_file
from beichen.errors import DataError
from tests.shared_data import shared

RECORDS: dict[str, list[tuple[dict[str, Any], str | None]]] = {
    "text": [({"data": "a", "content": "b"}, "a"), ({"txt": "a"}, None)],
    "skypile": [({"text": "网页正文"}, "网页正文"), ({"content": "x"}, None)],
    "wikipedia-en": [({"id": "1", "title": "T", "text": "Body"}, "Body")],
    "wikipedia-zh": [
        ({"completion": "昭通机场是机场", "source": "wikipedia.zh2307"}, "昭通机场是机场"),
        ({"title": "数学", "text": "研究数量"}, "数学：研究数量"),
        ({"title": "空"}, None),
    ],
    "baike": [
        (
            {"title": "词", "summary": "概要", "sections": [{"title": "一", "content": "甲"}, {"title": "", "content": "乙"}]},
            "词：概要\n一\n甲\n乙",
        ),
        ({"title": "词", "summary": "", "sections": []}, None),
        ({"title": None, "summary": "概要"}, None),
    ],
    "github-code": [({"code": "x = 1\n", "path": "a.py"}, "x = 1\n"), ({"content": "y"}, "y")],
    "belle": [
        ({"id": "1", "conversations": [{"from": "human", "value": "问"}, {"from": "assistant", "value": "答"}]}, "问\n答"),
        ({"conversations": []}, None),
    ],
}


@pytest.mark.parametrize("name", READERS)
def test_readers_give_the_text_of_their_records(name: str) -> None:
    for value, want in RECORDS[name]:
        account = Account()
        found = list(documents_of_records([Record(value, "f", 1, 10)], READERS[name], BadInput("count", account)))
        assert [document.text for document in found] == ([] if want is None else [want])
        assert {reason: tally.items for reason, tally in account.dropped.items()} == ({READERS[name].without: 1} if want is None else {})


def test_entries_begin_at_titles_and_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "wiki.txt"
    path.write_text("数学：\n研究数量。\n又一行\n\n物理：\n研究物质，如下：\n光\n", encoding="utf-8")
    found = [document.text for document in read_text_file(path, "entries", BadInput())]
    assert found == ["数学：\n研究数量。\n又一行", "物理：", "研究物质，如下：\n光"]


@pytest.mark.parametrize("name", ["telechat1/data.json", "telechat2/sft_data_config.json", "telechat2/pretrain_data_config.json"])
def test_weight_files_are_read_as_they_are(name: str) -> None:
    path = shared(f"data/sft/{name}")
    sources = read_source_file(path, {})
    assert [source.weight for source in sources] == list(json.loads(path.read_text()).values())
    assert all(file.is_file() for source in sources for file in source.files)


def test_a_source_is_called_by_its_file_without_what_says_its_format(tmp_path: Path) -> None:
    for format_, packed in product(FORMATS, ("", *COMPRESSIONS)):
        file = tmp_path / f"a.b{format_}{packed}"
        file.touch()
        assert [source.name for source in sources_of_paths([file], {})] == ["a.b"]


def test_options_hold_for_their_source(tmp_path: Path) -> None:
    for name in ("x/a.jsonl", "x/b.jsonl", "c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    baike = {"weight": 0.5, "reader": "baike", "clean": ["nfkc"]}
    content = {"x/*.jsonl": baike, "c.parquet": 2, str(tmp_path / "x"): {"text_key": "body"}}
    (tmp_path / "sources.json").write_text(json.dumps(content))
    first, second, third = read_source_file(tmp_path / "sources.json", {"clean": ("control",)})
    assert (first.weight, first.reader, first.clean, len(first.files)) == (0.5, "baike", ("nfkc",), 2)
    assert (second.weight, second.reader, second.clean, second.name) == (2, "text", ("control",), "c")
    assert (third.weight, third.text_key, [file.name for file in third.files]) == (1.0, "body", ["a.jsonl", "b.jsonl"])
    assert (first.name, third.name) == ("x", "x-2")
    assert sources_of_paths([tmp_path / "x"], {"reader": "skypile"})[0].reader == "skypile"


def test_all_faults_are_named_together(tmp_path: Path) -> None:
    path = shared("data/sft/broken/broken_weights.json")
    with pytest.raises(DataError) as caught:
        read_source_file(path, {})
    for message in ("4 of 4 sources", "must be above 0", "no such file", "not a number"):
        assert message in str(caught.value)
    (tmp_path / "a.jsonl").touch()
    wrong: list[tuple[Any, str]] = [
        ({"wieght": 1}, "did you mean 'weight'"),
        ({"reader": "baik"}, "did you mean 'baike'"),
        ({"clean": ["nfk"]}, "did you mean 'nfkc'"),
        ({"clean": "nfkc"}, "no list"),
        ({"encoding": "utf-99"}, "'utf-99' is not known"),
        ({"text_unit": "page"}, "'page'"),
        ({"text_key": 1}, "not a string"),
        ([1], "not a number"),
        (True, "not a number"),
    ]
    for value, message in wrong:
        (tmp_path / "s.json").write_text(json.dumps({"a.jsonl": value}))
        with pytest.raises(DataError, match=message):
            read_source_file(tmp_path / "s.json", {})
    assert Source(name="a", files=()).weight == 1.0
