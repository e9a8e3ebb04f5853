"""Laws of dialogues in rows: each is whole, in one row, once an epoch; exactly what the mask says is scored; losses are counted."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from beichen.data.batch import collate
from beichen.data.dialogue_settings import TooLong
from beichen.data.dialogue_tokens import DialogueTokens, collect_dialogues
from beichen.data.rows import DialogueRows
from beichen.errors import DataError
from beichen.text.bulk_rendering import flat
from beichen.text.messages import Rendered, Segment
from tests.data.slow_rows import assert_same_row, dialogue_positions, slow_row, split_row

PAD = 3


def dialogue(*turns: tuple[int, bool], first: int = 10) -> Rendered:
    """Segments of (length, trained); ids count upwards from ``first``."""
    segments, at = [], first
    for length, trained in turns:
        segments.append(Segment(ids=tuple(range(at, at + length)), weight=float(trained), role="assistant" if trained else "user"))
        at += length
    return Rendered(segments=tuple(segments))


def random_dialogues(count: int, longest: int, seed: int = 0) -> list[Rendered]:
    chooser = random.Random(seed)
    return [
        dialogue(*((chooser.randint(1, longest), turn % 2 == 1) for turn in range(2 * chooser.randint(1, 3))), first=10 + 1000 * number)
        for number in range(count)
    ]


def collect(dialogues: list[Rendered], sequence_length: int, too_long: TooLong = "truncate") -> DialogueTokens:
    parts = [flat(dialogues[:3]), flat(dialogues[3:])]  # as bulk rendering gives them
    return collect_dialogues(parts, sequence_length=sequence_length, pad_id=PAD, too_long=too_long)


def test_each_dialogue_is_whole_and_once_an_epoch() -> None:
    dialogues = random_dialogues(200, 12)
    rows = DialogueRows(collect(dialogues, 128), sequence_length=128, seed=7)
    wanted = Counter(tuple(dialogue_positions(one.ids, one.loss_mask)) for one in dialogues)
    index = 0
    for _ in range(3):
        found: Counter[tuple[tuple[int, int], ...]] = Counter()
        while found.total() < len(dialogues):
            row = rows.row(index)
            parts = split_row(row)
            assert_same_row(row, slow_row(parts, 128, PAD))
            found.update(map(tuple, parts))
            index += 1
        assert found == wanted
    assert rows.packing_efficiency > 0.97
    assert rows.rows_per_epoch == index / 3
    again = DialogueRows(collect(dialogues, 128), sequence_length=128, seed=7)
    for number in (index - 1, 0, index // 2):
        assert_same_row(rows.row(number), again.row(number))


def test_positions_run_through_without_isolation() -> None:
    dialogues = random_dialogues(6, 4)
    rows = DialogueRows(collect(dialogues, 100), sequence_length=100, seed=0, isolate=False)
    row = rows.row(0)
    used = row.token_count
    assert row.positions[:used].tolist() == list(range(used)) and not row.first_visible[:used].any()
    assert row.first_visible[used:].tolist() == list(range(used, 100))


def test_too_long_is_shortened_at_an_answer_and_counted() -> None:
    dialogues = [
        dialogue((2, False), (3, True), (2, False), (4, True)),  # 11 ids: fits 10 positions exactly
        dialogue((2, False), (3, True), (4, False), (4, True)),  # 13: keeps its first answer
        dialogue((2, False), (30, True)),  # cut inside its only answer
        dialogue((20, False), (3, True)),  # no target fits
        dialogue((5, False)),  # nothing is scored
        dialogue((1, True)),  # a first id is never a target
        dialogue((1, True), (20, False), (3, True)),  # so this one has none that fits
    ]
    tokens = collect(dialogues, 10)
    assert tokens.lengths.tolist() == [11, 5, 11]
    account = tokens.account
    assert {name: (tally.items, tally.size) for name, tally in account.dropped.items()} == {
        "no scored token fits into a row": (2, 47),
        "nothing in it is scored": (2, 6),
    }
    assert {name: (tally.items, tally.size) for name, tally in account.noted.items()} == {
        "shortened after an answer": (1, 8),
        "cut at the end of the row": (1, 21),
    }
    account.check()
    assert tokens.numbers.tolist() == [0, 1, 2]
    strict = collect(dialogues, 10, "drop")
    assert strict.lengths.tolist() == [11]
    assert strict.account.dropped["longer than a row"].items == 4
    kept = collect(dialogues, 10, "keep")
    assert kept.lengths.tolist() == [11, 11, 11] and kept.account.noted["cut at the end of the row"].items == 2
    assert kept.ids[11:22].tolist() == dialogues[1].ids[:11]
    assert len(DialogueRows(kept, sequence_length=10, seed=0).row(0).input_ids) == 10


def test_short_ends_are_found_by_the_slow_rule() -> None:
    """``truncate`` against a walk over segments."""
    for number, one in enumerate(random_dialogues(300, 9, seed=5)):
        room, end, stays = 12, 0, 0
        for segment in one.segments:
            end += len(segment.ids)
            if segment.trained and 1 < end <= room:
                stays = end
        length = len(one.ids)
        wanted = length if length <= room else (stays or room)
        found = collect([one], room - 1)
        expected = [wanted] if any(one.loss_mask[1:wanted]) else []
        assert found.lengths.tolist() == expected, number


def test_what_answers_count_is_laid_beside_their_targets() -> None:
    weighted = Rendered(segments=(
        Segment(ids=(1, 2), weight=0.0, role="user"), Segment(ids=(3, 4), weight=0.5, role="assistant"),
        Segment(ids=(5,), weight=0.0, role="user"), Segment(ids=(6,), weight=2.0, role="assistant"),
    ))  # fmt: skip
    row = DialogueRows(collect([weighted], 8), sequence_length=8, seed=0).row(0)
    assert row.targets.tolist() == [-100, 3, 4, -100, 6, -100, -100, -100]
    assert row.weights is not None and row.weights.tolist() == [0, 0.5, 0.5, 0, 2, 0, 0, 0]
    plain = DialogueRows(collect([dialogue((2, False), (3, True))], 8), sequence_length=8, seed=0).row(0)
    assert plain.weights is None
    batch = collate([row, plain])
    assert batch.weights is not None and batch.target_weight == 3.0 + 3.0 and batch.target_count == 6
    assert collate([plain]).weights is None and collate([plain]).target_weight == 3.0


@pytest.mark.parametrize(
    ("too_long", "given", "reason", "remedy"),
    [
        ("truncate", [(5, False)], r"1 dropped \(nothing in it is scored\)", "see the reasons"),
        ("truncate", [(15, False), (3, True)], r"1 dropped \(no scored token fits into a row\)", "raise data.sequence_length"),
        ("drop", [(2, False), (15, True)], r"1 dropped \(longer than a row\)", "raise data.sequence_length"),
    ],
)
def test_nothing_left_is_an_error_that_says_why(too_long: TooLong, given: list[tuple[int, bool]], reason: str, remedy: str) -> None:
    with pytest.raises(DataError, match=f"no dialogue with a scored token is left: 1 dialogues? .*{reason}") as fault:
        DialogueRows(collect([dialogue(*given)], 10, too_long), sequence_length=10, seed=0)
    assert fault.value.remedy is not None and fault.value.remedy.startswith(remedy)
