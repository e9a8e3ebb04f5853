"""Laws of contamination: a leak of thirteen units is found wherever it stands; benchmark files of every kind are read."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from beichen.data.account import BadInput
from beichen.data.contamination import GRAM_UNITS, Benchmarks, read_benchmarks, units_of
from beichen.data.records import read_records
from beichen.errors import DataError
from tests.shared_data import shared

ITEM = "What is the sum of the first thirteen odd numbers, written out in plain English words?"


def test_units_are_words_and_han_characters() -> None:
    assert len(units_of("Hello, wörld! 你好 3.14 ｆｕｌｌ")) == 2 + 2 + 2 + 1
    assert np.array_equal(units_of("HELLO　你 好"), units_of("hello...你好")) and not len(units_of(" ，。"))
    assert not np.array_equal(units_of("ab"), units_of("ba")) and not np.array_equal(units_of("ab c"), units_of("a bc"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.zip"])
def test_thirteen_units_anywhere_are_found_and_twelve_are_not(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {
        "a.jsonl": json.dumps({"q": ITEM, "answer": 169}), "a.json": json.dumps({"examples": [{"input": ITEM, "target": "169"}]}),
        "a.csv": f'id,question\n1,"{ITEM}"\n', "a.txt": ITEM,
    }  # fmt: skip
    if name == "a.zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("data/b.csv", content["a.csv"])
            packed.writestr("LICENSE", "words " * 20)
    else:
        path.write_text(content[name], encoding="utf-8")
    benchmarks = read_benchmarks([path])
    words = ITEM.split()
    for start in range(len(words) - GRAM_UNITS + 1):
        leak = " ".join(words[start : start + GRAM_UNITS]).upper()
        assert benchmarks.find(f"before it {leak}\n\nbehind it") == name
        assert benchmarks.find(f"before it {' '.join(leak.split()[:12])} behind it") is None
    benchmarks.save(tmp_path / "table.npz")
    assert Benchmarks.load(tmp_path / "table.npz").find(ITEM) == name


def test_planted_leaks_are_all_found_and_the_rest_is_left() -> None:
    names = ("gsm8k_test.jsonl.gz", "alignbench_v1_1.jsonl.gz", "cmmlu.zip", "ceval_dev_val.zip")
    benchmarks = read_benchmarks([shared(f"data/eval/{name}") for name in names])
    items = [record.value["question"] for name in names[:2] for record in read_records(shared(f"data/eval/{name}"), BadInput())]
    items = [item for item in items if len(units_of(item)) >= GRAM_UNITS]
    texts = [json.loads(line)["text"] for line in shared("data/corpus/zh_novels_classic.jsonl").read_text().split("\n") if line]
    texts = [text[:800] for text in texts if benchmarks.find(text[:800]) is None]  # some questions quote these novels
    assert len(texts) > 100
    choice = random.Random(0)
    for _ in range(3):  # documents of which one in a hundred holds a leak
        documents = choice.choices(texts, k=300)
        planted = choice.sample(range(300), 3)
        for number in planted:
            place = choice.randrange(len(documents[number]))
            documents[number] = documents[number][:place] + choice.choice(items) + documents[number][place:]
        assert [number for number, text in enumerate(documents) if benchmarks.find(text)] == sorted(planted)
    assert 0 < benchmarks.unchecked < benchmarks.items


def test_leaks_that_the_samples_are_known_to_hold() -> None:
    """Stated in sft/README.md: three questions of AlignBench, which one prompt repeats."""
    benchmarks = read_benchmarks([shared("data/eval/alignbench_v1_1.jsonl.gz")])
    lines = shared("data/sft/telechat1/test_prompts.jsonl").read_text(encoding="utf-8").split("\n")
    assert sum(benchmarks.find(json.loads(line)["input"]) is not None for line in lines if line) == 1


def test_a_proverb_that_a_question_quotes_is_no_leak() -> None:
    """The third overlap that sft/README.md states, 25 characters of English in a Chinese question, is a proverb of eight words: eight
    units are under the thirteen of the rule, and the neighbouring words differ. A page with the whole question is found."""
    benchmarks = read_benchmarks([path := shared("data/eval/alignbench_v1_1.jsonl.gz")])
    proverb = "Beauty is in the eye of the beholder"
    (question,) = (text for record in read_records(path, BadInput()) if proverb in (text := record.value["question"]))
    pages = [json.loads(line)["text"] for line in shared("data/sft/llamafactory/c4_demo.jsonl").read_text("utf-8").split("\n") if line]
    (page,) = (text for text in pages if proverb in text)
    assert len(units_of(proverb)) == 8 < GRAM_UNITS < len(units_of(question))
    before, after = page.split(proverb)
    assert [benchmarks.find(text) for text in (page, before + question + after)] == [None, path.name]
    assert not any(map(benchmarks.find, pages)), "nor is any other of these pages taken for a leak"


def test_files_without_items_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(DataError, match="no benchmark item of 13"):
        read_benchmarks([tmp_path / "a.txt"])
