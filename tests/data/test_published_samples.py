"""Every file of ../shared/data/sft does what its README expects: it is previewed, or refused by name with the reason."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from beichen.data.dialogue_files import read_dialogues, read_preferences
from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.preview import preview_dialogues
from beichen.data.source_list import read_source_file
from beichen.data.sources import read_documents
from beichen.errors import DataError
from tests.shared_data import shared
from tests.text.trained import small_tokenizer

SAMPLES = 50  # of each file
READ, FILLED, PREFERENCES, DOCUMENTS, MIXTURE, NOTHING = (
    "dialogues",
    "dialogues with placeholders",
    "preferences",
    "documents",
    "mixture",
    "",
)
EXPECTED: dict[str, tuple[str, str]] = {  # what it holds, and why it is refused as dialogues as it stands
    "telechat2/dummy_sft_code.jsonl": (READ, ""),
    "telechat2/dummy_sft_math.jsonl": (READ, ""),
    "telechat2/dummy_sft_multi.jsonl": (READ, ""),
    "telechat2/dummy_sft_role.jsonl": (READ, ""),
    "telechat2/dummy_sft_single.jsonl": (READ, ""),
    "telechat2/dummy_sft_tool.jsonl": (READ, ""),
    "telechat2/pretrain_example.jsonl": (DOCUMENTS, "plain text for pretraining"),
    "telechat2/sft_data_config.json": (MIXTURE, "a mixture (file: weight), not samples"),
    "telechat2/pretrain_data_config.json": (MIXTURE, "a mixture (file: weight), not samples"),
    "telechat2/demo_role_extra_keys.jsonl": (READ, ""),
    "telechat1/single_turn_example.jsonl": (READ, ""),
    "telechat1/multi_turn_example.jsonl": (READ, ""),
    "telechat1/data.json": (MIXTURE, "a mixture (file: weight), not samples"),
    "telechat1/test_prompts.jsonl": (NOTHING, "these are prompts, not training data"),
    "mindformers/telechat_one_field.jsonl": (READ, ""),
    "cwxndl/cwxndl_ner.json": (READ, ""),
    "llamafactory/alpaca_zh_demo.json": (READ, ""),
    "llamafactory/alpaca_en_demo.json": (READ, ""),
    "llamafactory/glaive_toolcall_zh_demo.json": (READ, ""),
    "llamafactory/glaive_toolcall_en_demo.json": (READ, ""),
    "llamafactory/dpo_zh_demo.json": (PREFERENCES, "preference data (keys chosen, rejected)"),
    "llamafactory/dpo_en_demo.json": (PREFERENCES, "preference data (keys chosen, rejected)"),
    "llamafactory/kto_en_demo.json": (PREFERENCES, "preference data (keys label)"),
    "llamafactory/identity.json": (FILLED, "the placeholder {{name}} is not filled in"),
    "llamafactory/mllm_demo.json": (NOTHING, "a multimodal record (key images)"),
    "llamafactory/dataset_info.json": (NOTHING, "an index of data sets"),
    "llamafactory/c4_demo.jsonl": (DOCUMENTS, "plain text for pretraining"),
    "llamafactory/wiki_demo.txt": (DOCUMENTS, "plain text for pretraining"),
    "llamafactory/v1_sft_demo.jsonl": (FILLED, "the placeholder {{name}} is not filled in"),
    "llamafactory/v1_dpo_demo.jsonl": (PREFERENCES, "preference data (keys chosen_messages, rejected_messages)"),
    "llamafactory/reason_tool_use_demo_50.jsonl": (READ, ""),
}


def path_of(name: str) -> Path:
    return shared("data/sft") / name


def test_the_table_names_every_file() -> None:
    folder = shared("data/sft")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in found if name != "README.md" and not name.startswith("broken/")} == set(EXPECTED)


@pytest.mark.parametrize("name", [name for name, (what, _) in EXPECTED.items() if what in (READ, FILLED)])
def test_a_preview_shows_answers_that_are_learnt(name: str) -> None:
    filled = ("name=Beichen", "author=us") if EXPECTED[name][0] == FILLED else ()
    settings = DialogueSettings(placeholders=filled, thinking=False)  # for which TeleChat2's format has no place
    dialogues = list(islice(read_dialogues([path_of(name)], settings=settings), SAMPLES))
    preview = preview_dialogues(dialogues, small_tokenizer("telechat2"), settings, sequence_length=1 << 15, samples=SAMPLES, rows=0)
    assert len(preview.samples) == len(dialogues) >= 28
    for dialogue, part in zip(dialogues, preview.samples, strict=True):
        shown = "".join(token.text for token in part.tokens)
        learnt = "".join(token.text for token in part.tokens if token.weight)
        assert not part.faults and 0 < part.targets < len(part.tokens)
        for message in dialogue.messages:
            if message.role in ("assistant", "user") and not message.tool_calls and message.weight != 0:
                assert message.content.strip() in (learnt if message.role == "assistant" else shown)


@pytest.mark.parametrize("name", [name for name, (_, reason) in EXPECTED.items() if reason])
def test_what_is_no_dialogue_is_refused_by_name_with_the_reason(name: str) -> None:
    with pytest.raises(DataError) as refusal:
        next(read_dialogues([path_of(name)]))
    assert refusal.value.args[0].startswith(str(path_of(name))) and EXPECTED[name][1] in str(refusal.value) and refusal.value.remedy


@pytest.mark.parametrize("name", [name for name, (what, _) in EXPECTED.items() if what in (PREFERENCES, DOCUMENTS, MIXTURE)])
def test_what_is_refused_as_dialogues_is_read_as_what_it_is(name: str) -> None:
    path, what = path_of(name), EXPECTED[name][0]
    if what == PREFERENCES:
        assert len(list(islice(read_preferences([path]), SAMPLES))) >= 10
    elif what == DOCUMENTS:
        documents = list(islice(read_documents([path], text_unit="lines"), SAMPLES))
        assert len(documents) >= 7 and all(document.text.strip() for document in documents)
    else:
        sources = read_source_file(path, {})
        assert {str(file.relative_to(path.parent)): source.weight for source in sources for file in source.files} == {
            name.removeprefix("./"): weight for name, weight in json.loads(path.read_text()).items()
        }
