"""The mismatches K1 to K13 of the pipeline reference, one by one: what is done about each.

K2 (class defaults instead of stated values) is held by ``tests/models``, K4 and K5 (roles as text, and as
reserved tokens) by ``test_golden_templates.py``, K7, K9 and K10 also by ``test_sentencepiece_engine.py``, K8 by
``test_golden_tokenizers.py``, K12 by ``tests/inference/test_generation.py``, K13 by ``tests/inference/test_generation_defaults.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from beichen.errors import TokenizerError
from beichen.text.special_ids import check_special_ids


@dataclass
class Vocabulary:
    """A vocabulary of 100 ids whose control tokens are these."""

    special_ids: Mapping[str, int] = field(default_factory=lambda: {"<_start>": 1, "<_end>": 2, "<_pad>": 3, "<_user>": 4, "<_bot>": 5})
    vocab_size: int = 100

    def __post_init__(self) -> None:
        names = self.special_ids
        self.end_id = names.get("<_end>", names.get("</s>", 0))
        self.start_id = names.get("<_start>", names.get("<s>"))
        self.pad_id = names.get("<_pad>", names.get("<pad>", 0))

    @property
    def stop_ids(self) -> Sequence[int]:
        return (self.end_id,)

    def piece(self, token: int) -> str:
        return next((name for name, known in self.special_ids.items() if known == token), f"word{token}")


TELECHAT_7B = Vocabulary({"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3, "<_user>": 90, "<_bot>": 91, "<_start>": 92, "<_end>": 93})
TELECHAT_52B = Vocabulary({"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3})
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}


def check(vocabulary: Vocabulary, *, rows: int = 100, config: Mapping | None = None, generation: Mapping | None = None):
    return check_special_ids(vocabulary, vocab_size=rows, config=config or {}, generation=generation or {}, origin="here")


def test_files_that_agree_leave_nothing_to_say():
    found = check(Vocabulary(), config=IDS, generation={**IDS, "user_token_id": 4, "bot_token_id": 5})
    assert (found.stop_ids, found.notes) == ((2,), ())


def test_k1_generation_config_counts_before_config():
    generation = {"bos_token_id": 92, "eos_token_id": 93, "pad_token_id": 3, "user_token_id": 90, "bot_token_id": 91}
    found = check(TELECHAT_7B, config=IDS, generation=generation)
    assert found.stop_ids == (93,)
    assert [note.split(" (")[0] for note in found.notes] == ["config.json: eos_token_id 2", "config.json: bos_token_id 1"]


def test_k3_role_ids_that_are_words_are_never_used():
    found = check(TELECHAT_52B, config=IDS, generation={**IDS, "user_token_id": 20, "bot_token_id": 21})
    assert found.stop_ids == (2,)
    assert "user_token_id 20 is the text 'word20', so it is never used" in found.notes[0]
    assert "bot_token_id 21" in found.notes[1]


def test_k11_one_padding_id_under_any_name():
    assert not check(TELECHAT_52B, generation=IDS).notes
    assert "pad_token_id 3" in check(Vocabulary({"<_end>": 2, "<_pad>": 5}), generation={"pad_token_id": 3}).notes[0]


def test_k10_ids_beyond_the_embedding_are_refused_by_name():
    with pytest.raises(TokenizerError, match=r"100 ids, the model's embedding 98 rows: ids from 98 on, <tool_call> among them"):
        check(Vocabulary({"<_end>": 2, "<tool_call>": 98}), rows=98)


def test_k12_some_rows_may_be_unused_but_not_many():
    assert check(Vocabulary(), rows=104).stop_ids == (2,)
    with pytest.raises(TokenizerError, match="more than 5% of them would never be used") as caught:
        check(Vocabulary(), rows=110)
    assert "another model" in str(caught.value)


@pytest.mark.parametrize("key", ["eos_token_id", "bos_token_id", "pad_token_id", "user_token_id"])
def test_ids_beyond_the_vocabulary_are_named(key):
    with pytest.raises(TokenizerError, match=rf"generation_config\.json: {key} is 160133, the model knows 0 to 99"):
        check(Vocabulary(), generation={key: 160133})


def test_a_tokenizer_whose_word_is_the_end_belongs_to_another_model():
    with pytest.raises(TokenizerError, match="eos_token_id 50 is the text 'word50' here") as caught:
        check(Vocabulary(), generation={"eos_token_id": [2, 50]})
    assert "another model" in str(caught.value)


def test_several_ends_and_ends_that_only_config_knows():
    assert check(Vocabulary(), generation={"eos_token_id": [2, 5]}).stop_ids == (2, 5)
    assert check(Vocabulary(), config={"eos_token_id": 4}).stop_ids == (2, 4)
    found = check(Vocabulary(), config={"eos_token_id": 50, "pad_token_id": -1, "bos_token_id": None})
    assert found.stop_ids == (2,) and "eos_token_id 50" in found.notes[0]


@pytest.mark.parametrize("value", ["2", 2.0, True, [2, "x"]])
def test_what_is_no_id_is_named(value):
    with pytest.raises(TokenizerError, match=r"eos_token_id is .*, expected an id or a list of ids"):
        check(Vocabulary(), generation={"eos_token_id": value})
