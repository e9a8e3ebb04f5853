"""What training will see of some dialogues, token by token: samples, and the rows they are packed into.

In: dialogues, a tokenizer, settings. Out: ``Preview``, plain values that ``cli`` colours and ``preview_page`` writes as HTML. Rule: ids,
weights and rows are those of training, by the same functions; what looks wrong is said in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from beichen.data.batch import IGNORED, Row
from beichen.data.dialogue_settings import DEFAULT_SETTINGS, DialogueSettings
from beichen.data.dialogue_tokens import DialogueTokens, collect_dialogues, rendered_for_training
from beichen.data.rows import DialogueRows
from beichen.text.bulk_rendering import RenderedDialogues
from beichen.text.decoding import TextAssembler
from beichen.text.messages import Dialogue
from beichen.text.tokenizer import Tokenizer
from beichen.util.quantities import counted

LEARNT = "learnt"
NO_TARGET, UNTRAINED_END, CUT_ANSWER = "no target", "untrained end token", "cut answer"


@dataclass(frozen=True)
class PreviewToken:
    """One id as a person reads it. ``weight``: what it counts as a target; 0: context. ``control``: it steers the model, whereas text that
    only looks so does not. ``begins``: a dialogue begins here."""

    id: int
    text: str
    weight: float
    control: bool
    begins: bool = False


@dataclass(frozen=True, kw_only=True)
class PreviewPart:
    """A sample, or a row of several."""

    title: str
    tokens: Sequence[PreviewToken]
    faults: Sequence[str]
    padding: int = 0
    becomes: str = LEARNT  # what training does with the targets: a rejected answer is not learnt

    @property
    def targets(self) -> int:
        """Ids that count, each as its weight says."""
        return sum(token.weight > 0 for token in self.tokens)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Samples in file order, rows of the first epoch, and the account of all dialogues that were read."""

    samples: Sequence[PreviewPart]
    rows: Sequence[PreviewPart]
    account: str
    sequence_length: int
    becomes: str = LEARNT  # of the targets of all parts, for a legend


def preview_dialogues(
    dialogues: Sequence[Dialogue], tokenizer: Tokenizer, settings: DialogueSettings = DEFAULT_SETTINGS, *,
    sequence_length: int, samples: int, rows: int, isolate: bool = True, seed: int = 0,
) -> Preview:  # fmt: skip
    """The first ``samples`` dialogues, and the first ``rows`` rows into which all of them are packed."""
    chunks = list(rendered_for_training(dialogues, tokenizer, settings))
    tokens = collect_dialogues(chunks, sequence_length=sequence_length, pad_id=tokenizer.pad_id, too_long=settings.too_long)
    kept = {number: place for place, number in enumerate(tokens.numbers.tolist())}
    shown = [
        _sample(one, dialogues[number].origin, tokens, kept.get(number), tokenizer)
        for number, one in enumerate(_each(chunks, min(samples, len(dialogues))))
    ]
    packed = []
    if len(tokens) and rows:
        source = DialogueRows(tokens, sequence_length=sequence_length, seed=seed, isolate=isolate)
        total = int(source.rows_per_epoch)
        packed = [preview_row(source.row(index), f"row {index + 1} of {total:,}", tokenizer) for index in range(min(rows, total))]
    return Preview(samples=shown, rows=packed, account=tokens.account.as_text(), sequence_length=sequence_length)


def _each(chunks: Sequence[RenderedDialogues], count: int) -> list[tuple[list[int], list[float]]]:
    """(ids, weights) of the first dialogues."""
    found: list[tuple[list[int], list[float]]] = []
    for chunk in chunks:
        for begin, end in zip(chunk.offsets[:-1].tolist(), chunk.offsets[1:].tolist(), strict=True):
            if len(found) == count:
                return found
            found.append((chunk.ids[begin:end].tolist(), chunk.weights[begin:end].tolist()))
    return found


def _sample(
    one: tuple[list[int], list[float]], origin: str, collected: DialogueTokens, place: int | None, tokenizer: Tokenizer
) -> PreviewPart:
    ids, weights = one
    used = len(ids) if place is None else int(collected.lengths[place])
    faults = faults_of(ids[:used], weights[:used], tokenizer, cut=used < len(ids))
    if place is None and NO_TARGET not in faults:
        faults = [*faults, "left out: longer than a row"]
    elif used < len(ids):
        faults = [*faults, f"shortened from {len(ids):,} to {used:,} tokens"]
    return PreviewPart(title=origin, tokens=spelled(ids[:used], weights[:used], tokenizer), faults=faults)


def faults_of(ids: Sequence[int], weights: Sequence[float], tokenizer: Tokenizer, *, cut: bool = False) -> list[str]:
    """What is wrong with one dialogue as training would see it."""
    if not any(weights[1:]):
        return [NO_TARGET]
    faults = []
    ends = [place for place, weight in enumerate(weights) if weight and not (place + 1 < len(weights) and weights[place + 1])]
    untrained = [place for place in ends if ids[place] not in tokenizer.stop_ids]
    if cut and untrained and untrained[-1] == len(ids) - 1:
        faults.append(CUT_ANSWER)
        untrained.pop()
    if untrained:
        faults.append(UNTRAINED_END)
    return faults


def preview_row(row: Row, title: str, tokenizer: Tokenizer, *, item: str = "dialogues", becomes: str = LEARNT) -> PreviewPart:
    """A row as the model meets it: each id is a target if the column before it says so; a document's last id is a target only."""
    used = row.token_count
    begins = [column for column in range(used) if row.positions[column] == 0] or [0]
    tokens: list[PreviewToken] = []
    faults: list[str] = []
    for number, begin in enumerate(begins):
        end = begins[number + 1] if number + 1 < len(begins) else used
        ids = [*row.input_ids[begin:end].tolist()]
        scored = row.targets[begin:end] != IGNORED
        weights = [0.0, *(scored * (1.0 if row.weights is None else row.weights[begin:end])).tolist()]
        ids.append(int(row.targets[end - 1]) if scored[-1] else -1)
        if ids[-1] < 0:  # not learnt, so the row does not hold it
            ids, weights = ids[:-1], weights[:-1]
        if not any(weights):
            faults.append(f"document {number + 1}: {NO_TARGET}")
        elif weights[-1] and ids[-1] not in tokenizer.stop_ids:
            faults.append(f"document {number + 1}: {CUT_ANSWER}")
        first, *rest = spelled(ids, weights, tokenizer)
        tokens += [replace(first, begins=True), *rest]
    title += f": {counted(len(begins), item)}, {used / len(row.input_ids):.1%} full"
    return PreviewPart(title=title, tokens=tokens, faults=faults, padding=len(row.input_ids) - used, becomes=becomes)


def spelled(ids: Sequence[int], weights: Sequence[float], tokenizer: Tokenizer) -> list[PreviewToken]:
    """Each id with the text that it completes; an unfinished character's text comes with its last id."""
    assembler = TextAssembler(tokenizer.engine, skip_special=False)
    texts = [assembler.push(token) for token in ids]
    if texts:
        texts[-1] += assembler.finish()
    control = frozenset(tokenizer.special_ids.values())
    return [PreviewToken(token, text, weight, token in control) for token, text, weight in zip(ids, texts, weights, strict=True)]
