"""Whether tokenizer, config.json and generation_config.json speak of the same tokens, and at which ids an answer ends.

Comes in: a tokenizer, the number of rows of the embedding, and the two files as plain mappings. Goes out: :class:`SpecialIds`. Rules: a
token is what its name says, so the tokenizer's word counts before any number; of the numbers, generation_config.json counts before
config.json, which several publishers never updated; a number that names ordinary text is never used as a control token; an id that the
embedding does not have, or a vocabulary of another size, is another model's tokenizer and refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from beichen.errors import TokenizerError

MAX_UNUSED = 0.05  # share of embedding rows without a piece; published models pad by 1 % and less
_CONFIG, _GENERATION = "config.json", "generation_config.json"


class Vocabulary(Protocol):
    """What is asked of a tokenizer."""

    vocab_size: int
    special_ids: Mapping[str, int]
    end_id: int
    start_id: int | None
    pad_id: int

    @property
    def stop_ids(self) -> Sequence[int]: ...

    def piece(self, token: int) -> str: ...


@dataclass(frozen=True, kw_only=True)
class SpecialIds:
    """What was found. ``notes``: numbers in the files that are not used, and why."""

    stop_ids: tuple[int, ...]
    notes: tuple[str, ...]


def check_special_ids(
    tokenizer: Vocabulary, *, vocab_size: int, config: Mapping[str, Any], generation: Mapping[str, Any], origin: str
) -> SpecialIds:
    """The ids at which an answer ends, once the files are found to fit."""
    _check_size(tokenizer, vocab_size, origin)
    control = {token: name for name, token in tokenizer.special_ids.items()}
    stops, notes = list(tokenizer.stop_ids), list[str]()
    for file, values in ((_GENERATION, generation), (_CONFIG, config)):
        for token in _ids(values, "eos_token_id", origin, file):
            _check_range(token, vocab_size, f"{origin}/{file}: eos_token_id")
            if token in control and not (file == _CONFIG and "eos_token_id" in generation):
                stops.append(token)
            elif token not in control and file == _GENERATION:
                raise TokenizerError(
                    f"{origin}/{file}: eos_token_id {token} is the text '{_piece(tokenizer, token)}' here, not a control token",
                    remedy="the tokenizer belongs to another model",
                )
            elif token not in stops:
                notes.append(
                    f"{file}: eos_token_id {token} ('{_piece(tokenizer, token)}') is not where answers end; {_said(tokenizer)} counts"
                )
        roles = {"bos_token_id": tokenizer.start_id, "pad_token_id": tokenizer.pad_id}
        for key, known in roles.items():
            for token in _ids(values, key, origin, file):
                if token >= 0:
                    _check_range(token, vocab_size, f"{origin}/{file}: {key}")
                if known is not None and token != known:
                    notes.append(
                        f"{file}: {key} {token} ('{_piece(tokenizer, token)}') is not the tokenizer's '{control.get(known, known)}'"
                    )
    for key in ("user_token_id", "bot_token_id", "start_token_id"):
        for token in _ids(generation, key, origin, _GENERATION):
            _check_range(token, vocab_size, f"{origin}/{_GENERATION}: {key}")
            if token not in control:
                notes.append(f"{_GENERATION}: {key} {token} is the text '{_piece(tokenizer, token)}', so it is never used")
    return SpecialIds(stop_ids=tuple(dict.fromkeys(stops)), notes=tuple(dict.fromkeys(notes)))


def _check_size(tokenizer: Vocabulary, vocab_size: int, origin: str) -> None:
    if tokenizer.vocab_size > vocab_size:
        beyond = [name for name, token in tokenizer.special_ids.items() if token >= vocab_size][:8]
        named = f", {', '.join(beyond)} among them" if beyond else ""
        raise TokenizerError(
            f"{origin}: the tokenizer has {tokenizer.vocab_size} ids, the model's embedding {vocab_size} rows: "
            f"ids from {vocab_size} on{named} mean nothing to it",
            remedy="the tokenizer belongs to another model, or tokens were added to it and never learnt",
        )
    if vocab_size - tokenizer.vocab_size > MAX_UNUSED * vocab_size:
        raise TokenizerError(
            f"{origin}: the tokenizer has {tokenizer.vocab_size} ids, the model's embedding {vocab_size} rows: "
            f"more than {MAX_UNUSED:.0%} of them would never be used",
            remedy="the tokenizer belongs to another model",
        )


def _check_range(token: int, vocab_size: int, where: str) -> None:
    if not 0 <= token < vocab_size:
        raise TokenizerError(f"{where} is {token}, the model knows 0 to {vocab_size - 1}", remedy="the file belongs to another model")


def _ids(values: Mapping[str, Any], key: str, origin: str, file: str) -> list[int]:
    value = values.get(key)
    found = [] if value is None else list(value) if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in found):
        raise TokenizerError(f"{origin}/{file}: {key} is {value!r}, expected an id or a list of ids")
    return found


def _piece(tokenizer: Vocabulary, token: int) -> str:
    return tokenizer.piece(token) if 0 <= token < tokenizer.vocab_size else ""


def _said(tokenizer: Vocabulary) -> str:
    return f"{tokenizer.end_id} ('{tokenizer.piece(tokenizer.end_id)}')"
