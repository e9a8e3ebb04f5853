"""More tokens for a tokenizer that exists; every id that has a meaning keeps it.

Comes in: names of control tokens, whole words, merges learnt behind the known ones (``training.continuing``). Goes out: the tokenizer, and
for every new id the old ids that spelled the same, from which a model's new rows start. Rules: a control token takes a reserved slot where
there is one; everything else the free ids from below, gaps first, then ids behind the last. What was built is read by ``tokenizers`` and
every id compared before it is handed out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import tokenizers

from beichen.errors import TokenizerError
from beichen.text.tokenizer import Tokenizer
from beichen.text.vocabulary_folder import JSON_FILE, SENTENCEPIECE_FILE, SETTINGS_FILE, object_file, parse_object

_RESERVED = re.compile(r"<_?\|?(reserved|unused|extra)(_special_token)?_?\d+\|?>")
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_SLOW_FILES = ("vocab.json", "merges.txt")  # the same vocabulary once more, for programs that read no tokenizer.json

Merge = tuple[str, str]


@dataclass(frozen=True)
class Extension:
    """The longer tokenizer; ``spelled``: for each new id, how the old tokenizer spelled it."""

    tokenizer: Tokenizer
    spelled: Mapping[int, Sequence[int]]


def extend_tokenizer(
    old: Tokenizer, *, control: Sequence[str] = (), words: Sequence[str] = (), merges: Sequence[Merge] = (), use_reserved: bool = True
) -> Extension:
    """``control``: names that steer the model and that text never becomes; ``words``: text that is one token wherever it stands;
    ``merges``: pairs of pieces as the file spells them."""
    check_names(old, control, words)
    if old.file(JSON_FILE) is not None:
        return _extend_json(old, control, words, merges, use_reserved)
    if old.file(SENTENCEPIECE_FILE) is None:
        raise TokenizerError("a *.tiktoken file names its control tokens in code, so none can be added", remedy="extend a tokenizer.json")
    if words or merges:
        raise TokenizerError(
            f"{SENTENCEPIECE_FILE} takes no words or pieces: what is added beside it is a control token to every program that reads it",
            remedy="add control tokens, or start from a tokenizer.json",
        )
    return _extend_sentencepiece(old, control)


def check_names(old: Tokenizer, control: Sequence[str], words: Sequence[str]) -> None:
    """An error where a name cannot be added."""
    named = [*control, *words]
    for place, name in enumerate(named):
        if not name.strip():
            raise TokenizerError("a token to be added has no visible character")
        if name in named[:place] or old.engine.token_of(name) is not None or old.encode(name, continues=True)[1:] == []:
            raise TokenizerError(f"'{name}' is one token already, or given twice", remedy="leave it out")


def _extend_json(old: Tokenizer, control: Sequence[str], words: Sequence[str], merges: Sequence[Merge], use_reserved: bool) -> Extension:
    state = parse_object(old.file(JSON_FILE), JSON_FILE)
    settings = parse_object(old.file(SETTINGS_FILE), SETTINGS_FILE)
    vocabulary: dict[str, int] = state["model"]["vocab"]
    added: list[dict[str, Any]] = state.setdefault("added_tokens", [])
    vocabulary |= {token["content"]: token["id"] for token in added}  # else `tokenizers` deals their ids out anew
    spelled: dict[int, Sequence[int]] = {}
    slots = [token for token in added if use_reserved and _RESERVED.fullmatch(token["content"])]
    free = _free_ids(set(vocabulary.values()))
    for name in control:
        if slots:
            slot = slots.pop(0)
            token = slot["id"]
            del vocabulary[slot["content"]]
            _rename(settings, slot["content"], name)
            slot["content"] = name
        else:
            token = next(free)
            added.append({"id": token, "content": name, **_FLAGS, "special": True})
            _note(settings, token, name, special=True)
        vocabulary[name] = token
        spelled[token] = old.encode(name, continues=True)
    for left, right in merges:
        token = vocabulary.get(left + right) or next(free)
        vocabulary[left + right] = token
        spelled[token] = [part for piece in (left, right) for part in spelled.get(vocabulary[piece], [vocabulary[piece]])]
    for word in words:
        vocabulary[word] = next(free)
        added.append({"id": vocabulary[word], "content": word, **_FLAGS, "special": False})
        _note(settings, vocabulary[word], word, special=False)
        spelled[vocabulary[word]] = old.encode(word, continues=True)
    known = state["model"]["merges"]
    joined = bool(known) and isinstance(known[0], str)
    known += [" ".join(merge) if joined else list(merge) for merge in merges]
    added.sort(key=lambda token: token["id"])
    files = {JSON_FILE: (json.dumps(state, ensure_ascii=False, indent=2) + "\n").encode()}
    if settings:
        files[SETTINGS_FILE] = object_file(settings)
    if merges:
        files |= _slow_files(old, vocabulary, added, known)
    new = old.with_files(files)
    _check(new, files[JSON_FILE], vocabulary, words)
    return Extension(new, spelled)


def _extend_sentencepiece(old: Tokenizer, control: Sequence[str]) -> Extension:
    settings = parse_object(old.file(SETTINGS_FILE), SETTINGS_FILE)
    settings.setdefault("added_tokens_decoder", {})
    spelled = {}
    for token, name in enumerate(control, start=old.vocab_size):
        _note(settings, token, name, special=True)
        spelled[token] = old.encode(name, continues=True)
    return Extension(old.with_files({SETTINGS_FILE: object_file(settings)}), spelled)


def _free_ids(used: set[int]) -> Iterator[int]:
    return (token for token in count() if token not in used)


def _rename(settings: dict[str, Any], name: str, new: str) -> None:
    for token in (settings.get("added_tokens_decoder") or {}).values():
        if token["content"] == name:
            token["content"] = new
    more = settings.get("additional_special_tokens")
    if more and name in more:
        more[more.index(name)] = new


def _note(settings: dict[str, Any], token: int, name: str, *, special: bool) -> None:
    """Where the settings list the added tokens, they list this one, too."""
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"][str(token)] = {"content": name, **_FLAGS, "special": special}
    if special and settings.get("additional_special_tokens"):
        settings["additional_special_tokens"].append(name)


def _slow_files(
    old: Tokenizer, vocabulary: Mapping[str, int], added: Sequence[Mapping[str, Any]], merges: Sequence[Any]
) -> dict[str, bytes]:
    """``vocab.json`` and ``merges.txt`` anew, where the folder has them."""
    names = {token["content"] for token in added}
    pieces = {piece: token for piece, token in vocabulary.items() if piece not in names}
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    contents = (json.dumps(pieces, ensure_ascii=False), "\n".join(["#version: 0.2", *lines, ""]))
    return {name: content.encode() for name, content in zip(_SLOW_FILES, contents, strict=True) if old.file(name) is not None}


def _check(new: Tokenizer, data: bytes, vocabulary: Mapping[str, int], words: Sequence[str]) -> None:
    theirs = tokenizers.Tokenizer.from_str(data.decode())
    wrong = [name for name, token in vocabulary.items() if theirs.token_to_id(name) != token]
    split = [word for word in words if new.encode(word, continues=True) != [vocabulary[word]]]
    if wrong or split:
        name = (wrong + split)[0]
        raise TokenizerError(
            f"'{name}' cannot be added: {'its id does not hold' if wrong else 'the text is rewritten or cut before it is found'}",
            remedy="choose another spelling",
        )
