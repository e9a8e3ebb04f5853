"""Preferences as ids: only answers are scored, both sides of a pair share a row's room, what cannot be learnt is refused by place."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.preference_tokens import PreferenceTokens
from beichen.errors import DataError
from beichen.text.messages import Dialogue, Preference, RatedDialogue
from tests.data.preferences import TOKENIZER, answer, bad_input, collected, messages, random_pairs, random_rated


def document(tokens: PreferenceTokens, number: int) -> tuple[list[int], str]:
    """(ids, text of what is scored)"""
    part = slice(*tokens.offsets[number : number + 2].tolist())
    ids = tokens.ids[part]
    return ids.tolist(), TOKENIZER.decode(ids[tokens.scored[part]].tolist())


def pair(prompt: str, chosen: str, rejected: str) -> Preference:
    return Preference(prompt=messages(prompt), chosen=answer(chosen), rejected=answer(rejected), origin="pairs.jsonl:7")


def test_each_side_is_the_dialogue_that_it_would_be_with_only_its_answer_scored():
    pairs = random_pairs(40)
    tokens = collected(pairs, sequence_length=200)
    assert len(tokens) == 40 and list(tokens.origins) == [one.origin for one in pairs]
    for number, one in enumerate(pairs):
        for side, said in enumerate((one.chosen, one.rejected)):
            ids, scored = document(tokens, 2 * number + side)
            whole = Dialogue(messages=[*one.prompt, *said])
            assert ids == TOKENIZER.render(whole.messages).ids
            assert scored == said[0].content
    tokens.account.check()
    assert tokens.account.used.size == len(tokens.ids)


def test_a_rated_dialogue_stands_beside_its_prompt_with_the_answer_of_another():
    given = random_rated(30)
    tokens = collected(given, paired=False, sequence_length=200)
    assert tokens.good is not None and tokens.good.tolist() == [one.good for one in given]
    answers = [one.messages[-1].content for one in given]
    borrowed = []
    for number, one in enumerate(given):
        own_ids, own = document(tokens, 2 * number)
        other_ids, other = document(tokens, 2 * number + 1)
        assert own == one.messages[-1].content and other != own
        begin = len(TOKENIZER.render(one.messages[:-1]).ids)
        assert own_ids[:begin] == other_ids[:begin]
        borrowed.append(other)
    assert sorted(borrowed) == sorted(answers), "every answer is borrowed once"
    assert list(collected(given, paired=False, sequence_length=200).ids) == list(tokens.ids)


def test_kto_takes_a_pair_for_one_good_and_one_bad_answer():
    tokens = collected(random_pairs(5), paired=False, sequence_length=200)
    assert tokens.good is not None and tokens.good.tolist() == [True, False] * 5


def test_pairs_are_asked_for_by_the_place_of_what_is_none():
    with pytest.raises(DataError, match=r"rated\.jsonl:1: one rated dialogue.*\n.*preference\.kind: kto"):
        collected(random_rated(3))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("row", [24, 40, 61])
def test_a_pair_fits_into_one_row_and_is_cut_no_more_than_that_needs(seed, row):
    rng = random.Random(seed)
    pairs = [
        Preference(prompt=messages("q"), chosen=answer("a" * rng.randint(1, 60)), rejected=answer("b" * rng.randint(1, 60)), origin="x:1")
        for _ in range(60)
    ]
    whole, tokens = collected(pairs, sequence_length=1000), collected(pairs, sequence_length=row)
    assert len(tokens) == 60
    for before, after in zip(whole.positions.reshape(-1, 2).tolist(), tokens.positions.reshape(-1, 2).tolist(), strict=True):
        assert min(sum(before), row - row % 2) <= sum(after) <= min(sum(before), row)
        assert all(now == then or now >= row // 2 for now, then in zip(after, before, strict=True))
    assert tokens.account.noted["cut at the end of the row"].items == int((whole.unit_positions > row).sum())


def test_equal_answers_are_refused_by_place():
    with pytest.raises(DataError, match=r"pairs\.jsonl:7: the chosen and the rejected answer are the same, token by token"):
        collected([pair("q", "yes", "yes")])
    with pytest.raises(DataError, match=r"pairs\.jsonl:7: .* are the same as far as they fit into a row"):
        collected([pair("q", "same " * 20 + "a", "same " * 20 + "b")], sequence_length=40)


def test_an_answer_that_is_wholly_cut_is_refused_by_place():
    with pytest.raises(DataError, match=r"pairs\.jsonl:7: the chosen answer is wholly cut: its prompt has \d+ tokens.*\n.*sequence_length"):
        collected([pair("long " * 20, "yes", "no")], sequence_length=60)
    with pytest.raises(DataError, match=r"rated\.jsonl:1: the rated answer is wholly cut"):
        collected([RatedDialogue(messages=[*messages("long " * 20), *answer("yes")], good=True, origin="rated.jsonl:1")], paired=False,
                  sequence_length=60)  # fmt: skip


def test_what_cannot_be_learnt_is_counted_where_the_settings_say_so():
    pairs = [pair("q", "yes", "no"), pair("q", "yes", "yes"), pair("long " * 20, "yes", "no")]
    tokens = collected(pairs, sequence_length=60, bad=bad_input("count"))
    assert len(tokens) == 1 and tokens.numbers.tolist() == [0]
    assert {reason: tally.items for reason, tally in tokens.account.dropped.items()} == {
        "both answers are the same": 1, "an answer is wholly cut": 1
    }  # fmt: skip
    dropped = collected([pair("q", "a" * 90, "b"), pairs[0]], sequence_length=60, settings=DialogueSettings(too_long="drop"))
    assert len(dropped) == 1 and dropped.account.dropped["longer than a row"].items == 1
    with pytest.raises(DataError, match="none of 1 preferences can be learnt from"):
        collected(pairs[1:2], bad=bad_input("count"))


def test_what_is_held_out_follows_from_the_prompt_alone():
    pairs = random_pairs(200, longest=12)
    tokens = collected(pairs, sequence_length=200, held_out_fraction=0.3)
    assert 30 < tokens.held_out.sum() < 90
    others = [replace(one, chosen=answer("another")) for one in reversed(pairs)]
    again = collected(others, sequence_length=200, held_out_fraction=0.3)
    assert again.held_out[::-1].tolist() == tokens.held_out.tolist()


def test_the_fingerprint_sees_every_id_and_what_is_scored():
    tokens = collected(random_pairs(5))
    ids, scored = tokens.ids.copy(), tokens.scored.copy()
    ids[3] += 1
    scored[-1] = ~scored[-1]
    prints = {tokens.fingerprint, replace(tokens, ids=ids).fingerprint, replace(tokens, scored=scored).fingerprint}
    assert len(prints) == 3 and collected(random_pairs(5)).fingerprint in prints
    assert isinstance(tokens.targets, np.ndarray) and (tokens.targets > 0).all()
