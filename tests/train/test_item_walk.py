"""A source of which nothing is left to train on is named with the reasons, and the remedy changes them."""

from __future__ import annotations

import pytest

from beichen.errors import SettingsError
from beichen.train.run import train
from tests.train.small_runs import tiny_recipe, write_corpus, write_dialogues


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    return str(train(tiny_recipe(folder / "run", write_corpus(folder / "corpus.jsonl"), steps=1)).folder)


@pytest.mark.parametrize(
    ("changes", "reasons", "remedy"),
    [
        ({"sequence_length": 2}, r"20 dropped \(no scored token fits into a row\)", "raise data.sequence_length: rows of 2 are too short"),
        ({"sequence_length": 2, "dialogues": {"too_long": "drop"}}, r"20 dropped \(longer than a row\)", "raise data.sequence_length"),
        ({"held_out_fraction": 0.999}, "20 used; 20 held out", "see the reasons"),
    ],
)
def test_dialogues(tmp_path, tokenizer, changes, reasons, remedy):
    dialogues = write_dialogues(tmp_path / "dialogues.jsonl", number=20)
    data = {"kind": "dialogues", "files": [str(dialogues)], "sequence_length": 64, **changes}
    with pytest.raises(SettingsError, match=rf"no dialogue of '.*' can be trained on: .*{reasons}") as fault:
        train(tiny_recipe(tmp_path / "run", dialogues, data=data, tokenizer={"path": tokenizer}))
    assert fault.value.remedy is not None and fault.value.remedy.startswith(remedy)
