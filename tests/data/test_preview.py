"""The preview says what training does: its ids, weights and rows are those of training, and what is wrong is named."""

from __future__ import annotations

import re
from html import unescape

import numpy as np

from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.dialogue_tokens import collect_dialogues, rendered_for_training
from beichen.data.preview import CUT_ANSWER, NO_TARGET, UNTRAINED_END, faults_of, preview_dialogues, spelled
from beichen.data.preview_page import preview_page
from beichen.data.rows import DialogueRows
from beichen.text.messages import Dialogue, Message
from tests.text.trained import small_tokenizer

TOKENIZER = small_tokenizer("telechat2-bare")


def dialogue(number: int, *answers: str, weight: float | None = None) -> Dialogue:
    turns = [Message(role="user", content=f"q{number} <_end> <b>你</b>")]
    for answer in answers:
        turns += [Message(role="assistant", content=answer, weight=weight), Message(role="user", content="more")]
    return Dialogue(messages=turns[:-1], origin=f"f:{number}")


DIALOGUES = [
    dialogue(1, "one", weight=0.5),
    dialogue(2, "two", weight=0),
    dialogue(3, "three", "four " * 30),
    dialogue(4, "five " * 60),
    dialogue(5, "好"),
]


def test_samples_show_what_is_learnt_and_what_is_wrong() -> None:
    preview = preview_dialogues(DIALOGUES, TOKENIZER, sequence_length=64, samples=5, rows=9)
    assert [part.title for part in preview.samples] == [f"f:{number}" for number in range(1, 6)]
    assert [[re.sub(r"\d+", "N", fault) for fault in part.faults] for part in preview.samples] == [
        [], [NO_TARGET], ["shortened from N to N tokens"], [CUT_ANSWER, "shortened from N to N tokens"], [],
    ]  # fmt: skip
    learnt = ["".join(token.text for token in part.tokens if token.weight) for part in preview.samples]
    assert learnt[0] == "one<_end>" and learnt[2] == "three<_end>" and learnt[4] == "好<_end>"
    assert {token.weight for token in preview.samples[0].tokens} == {0.0, 0.5}
    shown = preview.samples[0].tokens
    assert [token.text for token in shown if token.control] == ["<_user>", "<_bot>", "<_end>"]  # the typed one is text
    assert "".join(token.text for token in shown) == "<_user>q1 <_end> <b>你</b><_bot>one<_end>\n"
    dropped = preview_dialogues(DIALOGUES, TOKENIZER, DialogueSettings(too_long="drop"), sequence_length=64, samples=4, rows=0)
    assert dropped.samples[3].faults[-1] == "left out: longer than a row" and not dropped.rows


def test_rows_are_those_of_training() -> None:
    settings = DialogueSettings()
    preview = preview_dialogues(DIALOGUES, TOKENIZER, settings, sequence_length=64, samples=0, rows=9)
    tokens = collect_dialogues(rendered_for_training(DIALOGUES, TOKENIZER, settings), sequence_length=64, pad_id=0)
    rows = DialogueRows(tokens, sequence_length=64, seed=0)
    assert len(preview.rows) == int(rows.rows_per_epoch) and not preview.samples
    assert [fault for part in preview.rows for fault in part.faults] == [f"document 1: {CUT_ANSWER}"], "the long answer, alone in its row"
    for number, part in enumerate(preview.rows):
        row = rows.row(number)
        begins = [place for place, token in enumerate(part.tokens) if token.begins]
        assert len(begins) == int((row.positions[: row.token_count] == 0).sum())
        learnt = [token.id for token in part.tokens if token.weight]
        assert learnt == [int(target) for target in row.targets if target >= 0]
        assert part.padding == 64 - row.token_count
        weights = [token.weight for token in part.tokens if token.weight]
        assert row.weights is not None
        np.testing.assert_array_equal(weights, row.weights[row.targets >= 0])


def test_an_end_that_is_not_learnt_is_seen() -> None:
    user, bot, end = (TOKENIZER.special_ids[name] for name in ("<_user>", "<_bot>", "<_end>"))
    ids = [user, 50, bot, 60, 61, end]
    assert faults_of(ids, [0, 0, 0, 1, 1, 1], TOKENIZER) == []
    assert faults_of(ids, [0, 0, 0, 1, 1, 0], TOKENIZER) == [UNTRAINED_END]
    assert faults_of(ids[:5], [0, 0, 0, 1, 1], TOKENIZER, cut=True) == [CUT_ANSWER]
    assert faults_of(ids[:5], [0, 0, 0, 1, 1], TOKENIZER) == [UNTRAINED_END]
    assert faults_of(ids, [1, 0, 0, 0, 0, 0], TOKENIZER) == [NO_TARGET]  # a first id is never a target


def test_characters_of_several_tokens_come_whole() -> None:
    ids = TOKENIZER.encode("a龘b")
    tokens = spelled(ids, [0.0] * len(ids), TOKENIZER)
    assert "".join(token.text for token in tokens) == "a龘b" and len(tokens) == len(ids)


def test_the_page_holds_every_token_and_no_typed_markup() -> None:
    preview = preview_dialogues(DIALOGUES, TOKENIZER, sequence_length=64, samples=2, rows=1)
    page = preview_page(preview, title="<t> & co")
    assert "<b>" not in page and "&lt;" in page
    assert "<title>&lt;t&gt; &amp; co</title>" in page
    assert not re.search(r"https?:|<link|<script", page), "the page needs nothing else"
    boxes = re.findall(r'<span(?: class="([^"]*)")? title="(\d+)[^"]*">(.*?)</span>', page, re.DOTALL)
    tokens = [token for part in (*preview.samples, *preview.rows) for token in part.tokens]
    assert [int(number) for _, number, _ in boxes] == [token.id for token in tokens]
    assert ["t" in kind.split() for kind, _, _ in boxes] == [token.weight > 0 for token in tokens]
    assert [unescape(text).replace("⏎\n", "\n") for _, _, text in boxes] == [token.text or "·" for token in tokens]
    assert f"⚠ {NO_TARGET}" in page and "weight 0.5" in page
