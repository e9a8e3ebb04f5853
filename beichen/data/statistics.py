"""Counts of dialogues: how many, how long, which tokens by role and by source, what looks wrong.

In: dialogues, a tokenizer, settings. Out: ``DialogueStatistics``. Rule: lengths and masks are those of training; every dialogue read is in
exactly one source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beichen.data.dialogue_settings import DEFAULT_SETTINGS, DialogueSettings
from beichen.data.dialogue_tokens import collect_dialogues
from beichen.data.loss_mask import weigh_answers
from beichen.data.preview import faults_of
from beichen.data.rows import DialogueRows
from beichen.text.bulk_rendering import flat
from beichen.text.messages import Dialogue, Rendered
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass
class SourceStatistics:
    """The counts of one file."""

    dialogues: int = 0
    tokens: int = 0
    targets: int = 0


@dataclass
class DialogueStatistics:
    """Counts of all dialogues that could be read."""

    sequence_length: int
    dialogues: int = 0
    messages: Counter[str] = field(default_factory=Counter)  # by role
    tokens: Counter[str] = field(default_factory=Counter)  # by role; control tokens count for the turn that they open or close
    targets: int = 0
    tool_calls: int = 0
    thoughts: int = 0
    with_tools: int = 0
    sources: dict[str, SourceStatistics] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # of each fault, where it was first seen
    lengths: list[int] = field(default_factory=list)  # tokens of each dialogue
    rows: int = 0
    packing_efficiency: float = 0.0
    account: Mapping[str, Any] = field(default_factory=dict)  # what happens to them at this sequence length

    @property
    def quantiles(self) -> dict[str, int]:
        """Tokens of a dialogue: the shortest, the median, and so on."""
        if not self.lengths:
            return {}
        found = np.quantile(self.lengths, QUANTILES, method="higher")
        return {f"{quantile:g}": int(value) for quantile, value in zip(QUANTILES, found, strict=True)}

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``; lengths as quantiles."""
        facts = {name: value for name, value in vars(self).items() if name != "lengths"}
        return {**facts, "sources": {name: vars(source) for name, source in self.sources.items()}, "length_quantiles": self.quantiles}


def count_dialogues(
    dialogues: Iterable[Dialogue], tokenizer: Tokenizer, settings: DialogueSettings = DEFAULT_SETTINGS, *,
    sequence_length: int, reporter: Reporter = SILENT,
) -> DialogueStatistics:  # fmt: skip
    """Reads everything once; memory holds the ids."""
    found = DialogueStatistics(sequence_length)
    rendered: list[Rendered] = []
    with reporter.track("counting dialogues", total=None, unit="dialogues") as task:
        for dialogue in dialogues:
            weighed = weigh_answers(dialogue, settings)
            one = tokenizer.render(weighed.messages, weighed.tools)
            rendered.append(one)
            _count(found, dialogue, one, tokenizer)
            task.advance()
    collected = collect_dialogues([flat(rendered)], sequence_length=sequence_length, pad_id=tokenizer.pad_id, too_long=settings.too_long)
    found.account = collected.account.as_dict()
    if len(collected):
        packed = DialogueRows(collected, sequence_length=sequence_length, seed=0)
        found.rows, found.packing_efficiency = int(packed.rows_per_epoch), packed.packing_efficiency
    return found


def _count(found: DialogueStatistics, dialogue: Dialogue, rendered: Rendered, tokenizer: Tokenizer) -> None:
    ids, weights = rendered.ids, rendered.weights
    targets = sum(weight > 0 for weight in weights[1:])
    found.dialogues += 1
    found.messages.update(message.role for message in dialogue.messages)
    for segment in rendered.segments:
        found.tokens[segment.role] += len(segment.ids)
    found.targets += targets
    found.tool_calls += sum(len(message.tool_calls) for message in dialogue.messages)
    found.thoughts += sum(message.thinking is not None for message in dialogue.messages)
    found.with_tools += bool(dialogue.tools)
    found.lengths.append(len(ids))
    source = found.sources.setdefault(dialogue.origin.rpartition(":")[0], SourceStatistics())
    source.dialogues, source.tokens, source.targets = source.dialogues + 1, source.tokens + len(ids), source.targets + targets
    for fault in faults_of(ids, weights, tokenizer):
        found.faults[fault] += 1
        found.examples.setdefault(fault, dialogue.origin)
