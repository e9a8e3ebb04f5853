"""The held-out split is a fact of each text; the learning race's numbers are its definition."""

from __future__ import annotations

from beichen.data.sources import read_documents
from beichen.data.split import is_held_out, split_position
from tests.shared_data import shared

RACE = ("zh_lctt_articles.jsonl.zst", "zh_novels_classic.jsonl.zst", "en_docs.jsonl.zst", "en_tinyshakespeare.jsonl")


def test_position_is_the_head_of_the_digest() -> None:
    assert split_position("") == 0xE3B0C442 / 2**32  # SHA-256 of nothing begins e3b0c442


def test_larger_fractions_hold_out_more_of_the_same() -> None:
    texts = [f"text {number}" for number in range(2000)]
    parts = [{text for text in texts if is_held_out(text, fraction)} for fraction in (0.0, 0.05, 0.1, 1.0)]
    assert parts[0] == set() and parts[1] < parts[2] < parts[3] == set(texts)
    assert 60 < len(parts[1]) < 140
    assert not is_held_out("a", split_position("a"))  # under the fraction, not at it


def test_learning_race_split() -> None:
    documents = list(read_documents([shared(f"data/corpus/{name}") for name in RACE]))
    held_out = [document for document in documents if is_held_out(document.text, 0.05)]
    assert (len(documents), len(held_out)) == (4728, 229)
    assert sum(document.num_bytes for document in held_out) == 1_685_503
