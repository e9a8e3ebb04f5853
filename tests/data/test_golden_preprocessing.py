"""What the published preprocessing made of small texts, beside ours: the same ids and answers where it is right; where it is wrong, ours
differs as the fault (by its number in the reference) says, and only so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beichen.data.batch import IGNORED
from beichen.data.dialogue_files import read_dialogues
from beichen.data.dialogue_settings import TooLong
from beichen.data.dialogue_tokens import DialogueTokens, collect_dialogues, rendered_for_training
from beichen.data.rows import DialogueRows
from beichen.text.messages import Dialogue, Rendered
from tests.shared_data import shared
from tests.text.agreement import golden_tokenizer

PAD = 3
Sample = tuple[tuple[int, ...], tuple[int, ...]]  # ids, whether each is learnt


def folder(name: str) -> Path:
    return shared(f"golden/preprocess/{name}")


def rows_of(name: str) -> list[dict[str, Any]]:
    lines = shared(f"golden/preprocess/{name}.expected.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if not row.get("meta")]


def ours(family: str, files: list[str], tokenizer: str, template: str) -> list[Sample]:
    dialogues = read_dialogues([folder(family) / name for name in files])
    return [sample(golden_tokenizer(tokenizer, template).render(one.messages, one.tools)) for one in dialogues]


def sample(rendered: Rendered) -> Sample:
    return tuple(rendered.ids), tuple(rendered.loss_mask)


def parsed(ids: list[int], samples: list[Sample]) -> list[Sample]:
    """A pack as whole samples of ours, one behind another."""
    found: list[Sample] = []
    place = 0
    while place < len(ids):
        fitting = [one for one in samples if tuple(ids[place : place + len(one[0])]) == one[0]]
        assert fitting, f"at {place}: no sample of ours begins so: {ids[place : place + 12]}"
        found.append(max(fitting, key=lambda one: len(one[0])))
        place += len(found[-1][0])
    return found


@pytest.mark.parametrize("case", ["packed_128", "fractional_2workers_96", "overlong_dropped_64"])
def test_telechat1(case: str) -> None:
    """Ids and answers are the original's. P1-1: it trains <_user> and <_bot>; P1-2: it attends to its padding."""
    files = ["with_overlong.jsonl"] if case.startswith("overlong") else ["single.jsonl", "multi.jsonl"]
    samples = ours("telechat1", files, "telechat-12b", "telechat")
    for row in rows_of(f"telechat1/{case}"):
        real = [place for place, here in enumerate(row["attention_mask_without_padding"]) if here]
        ids = [row["input_ids"][place] for place in real]
        pieces = parsed(ids, samples)
        mask = [learnt for _, learnts in pieces for learnt in learnts]
        assert mask == [row["loss_mask_answers_only"][place] for place in real]
        wrong = {ids[place] for place in range(len(ids)) if mask[place] != row["loss_mask_original"][real[place]]}
        assert wrong == {20, 21}  # P1-1
        assert row["attention_mask_sum"] == len(row["input_ids"]) > len(real)  # P1-2


def rows(tokens: DialogueTokens, length: int, epoch: int = 0) -> list[Any]:
    source = DialogueRows(tokens, sequence_length=length, seed=0)
    count = int(source.rows_per_epoch)
    return [source.row(epoch * count + index) for index in range(count)]


def collected(dialogues: list[Dialogue], tokenizer: str, template: str, length: int, too_long: TooLong = "truncate") -> DialogueTokens:
    chosen = golden_tokenizer(tokenizer, template)
    return collect_dialogues(rendered_for_training(dialogues, chosen), sequence_length=length, pad_id=chosen.pad_id, too_long=too_long)


def test_telechat1_packs_as_they_should_be() -> None:
    """P1-2, P1-3: padding and neighbours are not seen; P1-5: padding is not learnt; P1-6: each epoch packs anew; P1-8: none is lost."""
    family = "telechat1"
    dialogues = list(read_dialogues([folder(family) / name for name in ("single.jsonl", "multi.jsonl", "with_overlong.jsonl")]))
    tokens = collected(dialogues, "telechat-12b", "telechat", 128)
    epochs = [rows(tokens, 128, epoch) for epoch in range(3)]
    for row in epochs[0]:
        used = row.token_count
        assert (row.targets[used:] == IGNORED).all() and PAD not in row.targets[:used]
        assert (row.first_visible[used:] == np.arange(used, 128)).all()  # a pad sees itself alone, and nobody sees it
        for begin in np.unique(row.first_visible[:used]):
            own = row.first_visible[:used] == begin
            assert row.input_ids[begin] == 20 and (row.positions[:used][own] == np.arange(own.sum())).all()
    assert len({tuple(map(tuple, (row.input_ids for row in epoch))) for epoch in epochs}) == 3  # P1-6
    long = collected(dialogues, "telechat-12b", "telechat", 64)
    assert len(long) == len(dialogues) and sum(tally.items for tally in long.account.noted.values()) >= 1  # P1-8
    assert collected(dialogues, "telechat-12b", "telechat", 64, "drop").account.dropped["longer than a row"].items >= 1


def test_telechat52b() -> None:
    """A single turn has the original's ids and its mask once that is aligned (P52-1); an earlier answer is context, as in chat()."""
    samples = ours("telechat-52b", ["single.jsonl"], "telechat-52b", "telechat52b")
    found = set()
    for row in rows_of("telechat-52b/packed_160"):
        for ids, mask in samples:
            for begin in range(len(row["input_ids"]) - len(ids) + 1):
                if tuple(row["input_ids"][begin : begin + len(ids)]) == ids:
                    found.add(ids)
                    assert tuple(row["loss_mask_aligned"][begin : begin + len(ids)]) == mask
        assert row["loss_mask_original"] != row["loss_mask_aligned"]  # P52-1
    assert found == {ids for ids, _ in samples}
    for _, mask in ours("telechat-52b", ["multi.jsonl"], "telechat-52b", "telechat52b"):
        assert "".join(map(str, mask)).strip("0").count("0") == 0 and mask[-1]  # P52-2: only last answers end as an answer may


def as_they_wrote(one: Sample) -> list[Sample]:
    """The turns of a sample of ours, also with the original's newline of two ids between turns (P2-3), and without the last newline."""
    begin = one[0].index(4)
    doubled: list[tuple[int, int]] = []
    plain = list(zip(*one, strict=True))[begin:]
    for place, (token, learnt) in enumerate(plain):
        doubled += [(126136, 0)] if token == 29 and place and plain[place - 1][0] == 2 else []
        doubled.append((token, learnt))
    forms = (plain, doubled, plain[:-1], doubled[:-2])
    return [(tuple(token for token, _ in form), tuple(learnt for _, learnt in form)) for form in forms]


@pytest.mark.parametrize("case", ["template_160", "no_template_160", "template_160_two_shards", "drop_and_truncate_72"])
def test_telechat2(case: str) -> None:
    """Behind its system text each row is dialogues of ours but for newlines (P2-3), with our answers; role tokens are context (P2-5)."""
    samples = ours("telechat2", ["sft.jsonl"], "telechat2-7b", "telechat2")
    forms = [form for one in samples for form in as_they_wrote(one)]
    system_only = 0
    for row in rows_of(f"telechat2/{case}"):
        if "sequence" not in row:
            continue
        ids = row["sequence"]
        if 4 not in ids:
            system_only += 1  # P2-2
            continue
        begin = ids.index(4)
        pieces = parsed(ids[begin:], forms)
        assert [0] * begin + [learnt for _, mask in pieces for learnt in mask] == row["answers_only_mask"]
    assert system_only == case.endswith("_160")


def test_telechat2_rows_as_they_should_be() -> None:
    """P2-1: no dialogue is lost; P2-2: no row is without an answer; P2-4: one newline behind a system text, as when the model is asked;
    P2-8, P2-11: rows follow from the seed, each dialogue is taken once; P2-12: rows are separated; P2-14: no answer is lost."""
    dialogues = list(read_dialogues([folder("telechat2") / "sft.jsonl"]))
    tokens = collected(dialogues, "telechat2-7b", "telechat2", 160)
    assert len(tokens) == len(dialogues)
    packed = rows(tokens, 160)
    found = [
        tuple(row.input_ids[begin:end])
        for row in packed
        for begin, end in pairwise([*np.flatnonzero(row.positions[: row.token_count] == 0), row.token_count])
    ]
    wanted = [tuple(tokens.ids[begin : end - 1]) for begin, end in pairwise(tokens.offsets)]
    assert sorted(found) == sorted(wanted)
    assert all((row.targets != IGNORED).any() for row in packed)
    tokenizer = golden_tokenizer("telechat2-7b", "telechat2")
    for record, dialogue in zip((folder("telechat2") / "sft.jsonl").read_text(encoding="utf-8").splitlines(), dialogues, strict=True):
        question = {"role": "user", "content": dialogue.messages[1].content}
        asked = tokenizer.render([dialogue.messages[0], question], add_generation_prompt=True).ids
        taught = tokenizer.render(dialogue.messages).ids
        assert taught[: len(asked)] == asked and json.loads(record)["system"].endswith("\n")


def test_telechat2_mindformers() -> None:
    """Ids and labels of each dialogue are the original's. M-1: its start tokens pile up at the front; M-2: its last pack is missing."""
    files = ["single.jsonl", "multi.jsonl"]
    plain = ours("telechat2-mindformers", files, "telechat2-7b", "telechat2-llamafactory")
    for case in ("no_start_96", "start_96"):
        present: list[Sample] = []
        bare = [(without_system(ids, mask)) for ids, mask in plain]
        for row in rows_of(f"telechat2-mindformers/{case}"):
            starts = [place for place, token in enumerate(row["input_ids"]) if token == 1]
            real = [place for place, token in enumerate(row["input_ids"]) if token not in (PAD, 1)]
            pieces = parsed([row["input_ids"][place] for place in real], bare)
            mask = [learnt for _, learnts in pieces for learnt in learnts]
            assert mask == [int(row["labels"][place] != IGNORED) for place in real]
            if case == "start_96":
                assert starts == list(range(real[0] - len(pieces), real[0]))  # M-1
            present += pieces
        assert len(present) < len(bare)  # M-2
    tokens = collected(
        list(read_dialogues([folder("telechat2-mindformers") / name for name in files])), "telechat2-7b", "telechat2-mindformers", 96
    )
    packed = rows(tokens, 96)
    assert sum(int((row.input_ids == 1).sum()) for row in packed) == len(plain)  # one start token a dialogue, and none is missing
    assert all(row.input_ids[begin] == 1 for row in packed for begin in np.flatnonzero(row.positions[: row.token_count] == 0))


def without_system(ids: tuple[int, ...], mask: tuple[int, ...]) -> Sample:
    begin = ids.index(4)
    return ids[begin:], mask[begin:]


def test_ndl() -> None:
    """The corrected labels of the original's format: answer and its [EOS] (F15), typed control tokens as text (F26)."""
    lines = (folder("ndl") / "sft_golden.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer = golden_tokenizer("ndl", "ndl")
    for line in lines:
        case = json.loads(line)
        turns = case["conversations"]
        if [turn["from"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
            continue
        messages = [{"role": turn["from"], "content": turn["value"]} for turn in turns]
        rendered = tokenizer.render(messages)
        corrected = case["corrected"]
        length = min(len(rendered.ids), case["max_len"])
        labels = [token if learnt else IGNORED for token, learnt in zip(rendered.ids, rendered.loss_mask, strict=True)]
        assert rendered.ids[:length] == corrected["input_ids"][:length], case["name"]
        assert labels[:length] == corrected["labels"][:length], case["name"]
