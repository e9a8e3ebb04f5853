"""The kinds of training, by ``data.kind``: how its data are read, which objective learns from them, what is asked of a recipe.

A kind is one line here, a reader of its rows and, where it is not next-token prediction, what a run begins with. Resolved when asked for:
settings read the facts, and readers read settings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingKind:
    """Functions are named as ``module:function``."""

    label: str  # of the run's progress
    read: str  # (recipe, tokenizer, reporter) -> Material
    begin: str = "beichen.train.learning:begin_next_token"  # (recipe, parts, folder, begun=, reporter=) -> Learning
    running_text: bool = False  # a tokenizer can be made of it; it can be encoded beforehand, and read in phases
    against_reference: bool = False  # the model that the run begins from is compared with: answers by themselves, not those of a fresh one


KINDS = {
    "documents": TrainingKind(label="pretraining", read="beichen.train.text_material:read_documents", running_text=True),
    "dialogues": TrainingKind(label="fine-tuning", read="beichen.train.dialogue_material:render_dialogues"),
    "preferences": TrainingKind(
        label="preference training", read="beichen.train.preference_material:collect_material",
        begin="beichen.train.preferences:begin_preferences", against_reference=True,
    ),
}  # fmt: skip
