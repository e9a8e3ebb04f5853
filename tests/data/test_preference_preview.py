"""The preview of preferences shows both answers as training compares them, and says which is to become less likely."""

from __future__ import annotations

from beichen.data.account import Account, BadInput
from beichen.data.preference_preview import preview_preferences
from beichen.data.preview import CUT_ANSWER, PreviewPart
from beichen.data.preview_page import preview_page
from beichen.text.messages import Message, Preference
from tests.text.trained import small_tokenizer

TOKENIZER = small_tokenizer("telechat2-bare")


def pair(number: int) -> Preference:
    chosen, rejected = ([Message(role="assistant", content=answer)] for answer in ("right", "wrong " * number))
    return Preference(prompt=[Message(role="user", content=f"q{number}")], chosen=chosen, rejected=rejected, origin=f"p:{number}")


PAIRS = [pair(1), pair(2), pair(90)]


def scored_of(part: PreviewPart) -> str:
    return "".join(token.text for token in part.tokens if token.weight)


def test_both_answers_of_a_pair_are_shown_as_training_compares_them() -> None:
    account = Account(item="preferences", unit="tokens")
    preview = preview_preferences(PAIRS, TOKENIZER, paired=True, sequence_length=64, samples=9, rows=9, bad=BadInput("count", account))
    assert [part.title for part in preview.samples] == [f"p:{number} · {side}" for number in (1, 2, 90) for side in ("chosen", "rejected")]
    scored = [scored_of(part) for part in preview.samples]
    assert scored[:4] == ["right<_end>", "wrong <_end>", "right<_end>", "wrong wrong <_end>"]
    assert scored[5].startswith("wrong wrong ") and "<_end>" not in scored[5]
    assert [list(part.faults) for part in preview.samples] == [[], [], [], [], [], [CUT_ANSWER]]
    assert [part.becomes for part in preview.samples] == ["to become likelier", "to become less likely"] * 3
    packed = ["|" * token.begins + token.text * bool(token.weight) for part in preview.rows for token in part.tokens]
    assert sorted("".join(packed).split("|")) == ["", *sorted(scored)], "rows hold every answer, each scored once"
    assert all(token.weight in (0, 1) for part in preview.rows for token in part.tokens)


def test_rated_answers_are_shown_with_their_rating() -> None:
    bad = BadInput("raise", Account(item="preferences", unit="tokens"))
    preview = preview_preferences(PAIRS[:2], TOKENIZER, paired=False, sequence_length=64, samples=3, rows=1, bad=bad)
    assert [part.title for part in preview.samples] == ["p:1 · good", "p:1 · bad", "p:2 · good"]
    assert [scored_of(part) for part in preview.samples] == ["right<_end>", "wrong <_end>", "right<_end>"]
    assert [part.becomes for part in preview.samples] == ["to become likelier", "to become less likely", "to become likelier"]


def test_a_page_of_preferences_calls_nothing_learnt() -> None:
    bad = BadInput("raise", Account(item="preferences", unit="tokens"))
    preview = preview_preferences(PAIRS[:1], TOKENIZER, paired=True, sequence_length=64, samples=1, rows=1, bad=bad)
    page = preview_page(preview, title="pairs")
    assert "to become likelier" in page and "to become less likely" in page and ">scored<" in page and "learnt" not in page
