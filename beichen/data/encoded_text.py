"""``EncodedText``: what ``beichen data encode`` wrote: the stores of several sources with their weights, opened as one.

In: a folder that holds ``encoded.json``, or ``part-1-of-4`` and so on, each of which does. Out: stores and weights for a mixture, held-out
stores, the tokenizer's folder, the ledger of all parts. Rule: a part that is missing, and one made differently, is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beichen.data.account import Account
from beichen.data.store import TokenStore
from beichen.data.versioned_file import read_versioned
from beichen.errors import DataError

FORMAT, VERSION = "beichen encoded text", 1
DESCRIPTION = "encoded.json"
TOKENIZER_FOLDER = "tokenizer"
TRAIN, HELD_OUT = "train", "held_out"
_PART = re.compile(r"part-(\d+)-of-(\d+)")


@dataclass(frozen=True, kw_only=True)
class EncodedText:
    """Sources without documents are left out."""

    tokenizer: Path
    names: list[str]  # of the sources
    train: list[TokenStore]  # one for each
    weights: list[float]  # of each, in epochs
    held_out: list[TokenStore]
    account: Account


def is_encoded_text(folder: str | Path) -> bool:
    """Whether the folder was written by ``beichen data encode``, or one of its parts was."""
    path = Path(folder)
    return path.is_dir() and ((path / DESCRIPTION).is_file() or any(_PART.fullmatch(entry.name) for entry in path.iterdir()))


def open_encoded_text(folder: str | Path, *, tokenizer_fingerprint: str | None = None, verify: bool = True) -> EncodedText:
    """All stores of the folder. ``tokenizer_fingerprint``: refuse what any other tokenizer encoded. ``verify``: compare checksums."""
    path = Path(folder)
    parts = open_parts(path)
    place, first = parts[0]
    text = EncodedText(tokenizer=place / TOKENIZER_FOLDER, names=[], train=[], weights=[], held_out=[], account=Account())
    for part, description in parts:
        text.account.merge(Account.from_dict(description["ledger"]))
        for source in description["sources"]:
            wanted = tokenizer_fingerprint or first["tokenizer"]
            for lane, stores in ((TRAIN, text.train), (HELD_OUT, text.held_out)):
                if lane == HELD_OUT and not first["settings"]["held_out_fraction"]:
                    continue
                store = TokenStore(part / source["name"] / lane, tokenizer_fingerprint=wanted, verify=verify)
                if store.num_documents:
                    stores.append(store)
                    if lane == TRAIN:
                        text.weights.append(source["weight"])
                        text.names.append(source["name"])
    if not text.train:
        raise DataError(f"{path}: holds no documents to train on", remedy="encode some text into it")
    return text


def open_parts(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The folder of each part with its description: the folder itself where it was made in one. All were made alike."""
    parts = [(part, read_description(part)) for part in _parts(path)]
    place, first = parts[0]
    for part, description in parts:
        for key in ("tokenizer", "settings", "sources"):
            if description[key] != first[key]:
                raise DataError(f"{part}: was made with other {key} than {place}", remedy="encode all parts alike")
    return parts


def read_description(folder: Path) -> dict[str, Any]:
    """``encoded.json``; refused when it is none or of another version."""
    remedy = "give a folder that `beichen data encode` has made"
    if (folder / ".work").is_dir():
        remedy = "the encoding is not finished: start it again with the same words"
    return read_versioned(folder / DESCRIPTION, file_format=FORMAT, version=VERSION, if_missing=remedy)


def _parts(path: Path) -> list[Path]:
    found = {int(match[1]): (int(match[2]), entry) for entry in path.iterdir() if (match := _PART.fullmatch(entry.name))}
    if (path / DESCRIPTION).is_file() or not found:
        return [path]
    count = max(of for of, _ in found.values())
    if missing := [number for number in range(1, count + 1) if number not in found or found[number][0] != count]:
        raise DataError(f"{path}: part {missing[0]} of {count} is missing", remedy=f"beichen data encode --part {missing[0]}/{count} ...")
    return [found[number][1] for number in range(1, count + 1)]
