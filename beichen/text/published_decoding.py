"""Decoding exactly as the published tokenizer classes do it, for comparison with them: never what a user is shown.

The TeleChat classes write the space that belongs after a text before it, when a control token follows; they join added tokens with
spaces unless told otherwise, and show nothing for control pieces that their settings do not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from beichen.text.decoding import TextAssembler
from beichen.text.engine import Engine
from beichen.text.sentencepiece_engine import SentencePieceEngine

if TYPE_CHECKING:
    from beichen.text.vocabulary_folder import Settings

_SPACE_BEFORE = ("TelechatTokenizer", "Telechat2Tokenizer")  # classes that misplace the space


def decode_as_published(engine: Engine, settings: Settings, ids: Sequence[int], skip_special: bool, spaces: bool | None) -> str:
    """The published text. ``spaces``: between added tokens; ``None`` as the settings say."""
    if not isinstance(engine, SentencePieceEngine):
        assembler = TextAssembler(engine, skip_special=skip_special)
        return "".join(map(assembler.push, ids)) + assembler.finish()
    added = set(settings.added().values())
    misplaced = settings.config.get("tokenizer_class") in _SPACE_BEFORE
    if spaces is None:
        spaces = bool(settings.config.get("spaces_between_special_tokens", True))
    parts: list[str] = []
    run: list[int] = []
    for token in ids:
        if token in engine.role_ids and skip_special:
            continue
        if token in added and token not in engine.role_ids:
            parts += [_joined(engine, run, misplaced)] if run else []
            parts.append(engine.piece_name(token))
            run = []
        else:
            run.append(token)
    parts += [_joined(engine, run, misplaced)] if run else []
    return (" " if spaces else "").join(parts)


def _joined(engine: SentencePieceEngine, ids: Iterable[int], misplaced: bool) -> str:
    text, run, after_role = "", list[int](), False
    for place, token in enumerate(ids):
        if token not in engine.role_ids:
            run.append(token)
            after_role = False
            continue
        if misplaced and place and not after_role:
            text += " "
        text += _run(engine, run) + engine.piece_name(token)
        run, after_role = [], True
    return text + _run(engine, run)


def _run(engine: SentencePieceEngine, ids: Iterable[int]) -> str:
    shown = [token for token in ids if token == engine.unknown_id or token not in engine.silent_ids]
    data = b"".join(engine.unknown_surface.encode() if token == engine.unknown_id else engine.pieces[token] for token in shown)
    text = data.decode("utf-8", "beichen.each_byte")
    return text[1:] if shown and shown[0] != engine.unknown_id and text.startswith(" ") else text
