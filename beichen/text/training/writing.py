"""Learnt merges as the files of a tokenizer folder: ``tokenizer.json`` and ``tokenizer_config.json``.

The files are those that ``tokenizers`` and ``transformers`` write, so every program that reads these reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from beichen.text.byte_alphabet import byte_alphabet
from beichen.text.normalization import NORMALIZATION_KEY
from beichen.text.pre_tokenization import split_pattern
from beichen.text.tokenizer import template_settings
from beichen.text.training.learning import Pair
from beichen.text.training.special_tokens import SpecialTokens
from beichen.text.vocabulary_folder import JSON_FILE, SETTINGS_FILE, object_file


def byte_spellings() -> list[str]:
    """The letters of the published alphabet in code-point order: how symbols 0 to 255 are spelled."""
    return sorted(byte_alphabet())


def byte_symbols() -> list[int]:
    """The symbol of each byte: the place of its letter among ``byte_spellings``."""
    alphabet = byte_alphabet()
    symbols = [0] * 256
    for symbol, letter in enumerate(byte_spellings()):
        symbols[alphabet[letter]] = symbol
    return symbols


def spelled_bytes(name: str) -> bytes | None:
    """The bytes whose piece would be spelled like a control token, or ``None`` when there are none."""
    alphabet = byte_alphabet()
    return bytes(alphabet[letter] for letter in name) if all(letter in alphabet for letter in name) else None


def tokenizer_json(merges: Sequence[Pair], specials: SpecialTokens, *, pattern: str, normalization: Sequence[str]) -> bytes:
    """The vocabulary file."""
    spellings = byte_spellings()
    pairs = []
    for left, right in merges:
        pairs.append((spellings[left], spellings[right]))
        spellings.append(spellings[left] + spellings[right])
    special_ids, piece_ids = specials.place(len(spellings))
    library = tokenizers.Tokenizer(models.BPE({**special_ids, **dict(zip(spellings, piece_ids, strict=True))}, pairs))
    if "nfkc" in normalization:
        library.normalizer = normalizers.NFKC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(split_pattern(pattern)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in specials.all_names])
    return library.to_str(pretty=True).encode()


def tokenizer_files(
    merges: Sequence[Pair],
    specials: SpecialTokens,
    roles: Mapping[str, str],
    *,
    pattern: str,
    template: str | None,
    normalization: Sequence[str],
) -> dict[str, bytes]:
    """All files by name. ``roles``: the control token of ``bos_token`` and its kin."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "additional_special_tokens": [name for name in specials.all_names if name not in roles.values()],
        "clean_up_tokenization_spaces": False,
        **({NORMALIZATION_KEY: list(normalization)} if normalization else {}),
        **({} if template is None else template_settings(template)),
    }
    data = tokenizer_json(merges, specials, pattern=pattern, normalization=normalization)
    return {JSON_FILE: data, SETTINGS_FILE: object_file(settings)}
