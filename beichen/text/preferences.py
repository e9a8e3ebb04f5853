"""One record of preference data to a :class:`~beichen.text.messages.Preference` or :class:`~beichen.text.messages.RatedDialogue`.

Comes in: a JSON object and its place. Goes out: two answers to one prompt, or one dialogue that is good or not. Rules kept here: both sides
are read and checked as the dialogues they would be; equal answers, a missing side and a rating that is neither true nor
false are refused by name. The readers stand in ``dialogue_schemas/preferences.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beichen.errors import DataError
from beichen.text.dialogue_schemas.preferences import CHOSEN, PAIRS, RATINGS, REJECTED, PairSchema, RatingSchema, split_sides
from beichen.text.dialogues import RATING_KEYS, checked, preference_keys, refuse_media
from beichen.text.messages import Dialogue, Preference, RatedDialogue
from beichen.util.json_kinds import json_kind

_ALL: Sequence[PairSchema | RatingSchema] = (*PAIRS, *RATINGS)


def read_preference(record: Mapping[str, Any], origin: str, *, placeholders: Mapping[str, str] | None = None) -> Preference | RatedDialogue:
    """What a record prefers. Raises DataError for anything that is no whole preference, supervised dialogues included."""
    if not isinstance(record, Mapping):
        raise DataError(f"{origin}: {json_kind(record)}, expected an object that holds a preference")
    refuse_media(record, origin)
    seen = preference_keys(record)
    if not seen:
        raise DataError(
            f"{origin}: no preference data: no chosen and rejected answers, and no label",
            remedy=f"known schemas: {'; '.join(f'{one.name} ({one.description})' for one in _ALL)}",
        )
    rated = not {key for key in seen if key not in RATING_KEYS}
    schemas: Sequence[PairSchema | RatingSchema] = RATINGS if rated else PAIRS
    schema = next((one for one in schemas if all(key in record for key in one.keys)), None)
    if schema is None:
        raise DataError(f"{origin}: preference data of no known schema: keys {', '.join(list(record)[:12])}")
    try:
        if isinstance(schema, RatingSchema):
            return _rated(schema, record, origin, placeholders)
        return _pair(schema, record, origin, placeholders)
    except DataError as fault:
        raise DataError(f"{origin}: {fault.args[0]} (schema '{schema.name}')", remedy=fault.remedy) from fault


def chosen_dialogue(preference: Preference | RatedDialogue) -> Dialogue:
    """The dialogue that is worth learning from as it is: the prompt with its chosen answer, or a dialogue that was called good."""
    if isinstance(preference, Preference):
        return Dialogue(messages=[*preference.prompt, *preference.chosen], tools=preference.tools, origin=preference.origin)
    if not preference.good:
        raise DataError(f"{preference.origin}: this dialogue was called bad; only a good one can be learnt from")
    return Dialogue(messages=preference.messages, tools=preference.tools, origin=preference.origin)


def _pair(schema: PairSchema, record: Mapping[str, Any], origin: str, placeholders: Mapping[str, str] | None) -> Preference:
    sides = {}
    for side in (CHOSEN, REJECTED):
        if record.get(side, record.get(f"{side}_messages")) is None:
            raise DataError(f"there is no {side} answer")
        sides[side] = schema.side(record, side)
        try:
            sides[side] = Dialogue(messages=checked(sides[side].messages, placeholders), tools=sides[side].tools)
        except DataError as fault:
            raise DataError(f"the {side} side: {fault.args[0]}", remedy=fault.remedy) from fault
    prompt, chosen, rejected = split_sides(sides[CHOSEN].messages, sides[REJECTED].messages)
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=sides[CHOSEN].tools, origin=origin)


def _rated(schema: RatingSchema, record: Mapping[str, Any], origin: str, placeholders: Mapping[str, str] | None) -> RatedDialogue:
    key = next(key for key in RATING_KEYS if record.get(key) is not None)
    if not isinstance(record[key], bool):
        raise DataError(f"'{key}' is {record[key]!r}, expected true or false")
    dialogue = schema.read(record)
    return RatedDialogue(messages=checked(dialogue.messages, placeholders), good=record[key], tools=dialogue.tools, origin=origin)
