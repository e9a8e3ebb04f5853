"""``DialogueSettings``: which answers are learnt, and what happens to records and lengths that do not simply fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from beichen.errors import SettingsError

TooLong = Literal["truncate", "keep", "drop"]


@dataclass(frozen=True, kw_only=True)
class DialogueSettings:
    """How dialogues become training samples. An answer is learnt with its end token; a record's own weights of answers are kept.

    answers: ``all``, or ``last``: those since the user's last question.
    tool_calls: turns that call tools are learnt too.
    thinking: thoughts are kept, and learnt with their answers; false: they are taken out.
    too_long: a dialogue longer than a row is shortened to its last answer that fits (``truncate``), kept in a row of its own and cut at
        the row's end (``keep``), or left out (``drop``); counted in every case.
    preferences: preference data is refused, or its ``chosen`` answers are learnt.
    mixed_schemas: one file may hold records of several schemas.
    placeholders: values of ``{{name}}`` and ``{{author}}`` in published files, as ``name=value``.
    """

    answers: Literal["all", "last"] = "all"
    tool_calls: bool = True
    thinking: bool = True
    too_long: TooLong = "truncate"
    preferences: Literal["refuse", "chosen"] = "refuse"
    mixed_schemas: bool = False
    placeholders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for given in self.placeholders:
            if not given.partition("=")[0] or "=" not in given:
                raise SettingsError(f"placeholders: '{given}': expected name=value, for example name=Beichen")

    @property
    def filled(self) -> Mapping[str, str]:
        """The placeholders by name."""
        return dict(given.split("=", 1) for given in self.placeholders)


DEFAULT_SETTINGS = DialogueSettings()
