"""Training a byte-level BPE tokenizer from texts.

Comes in: an iterator of texts (read once, never held). Goes out: a :class:`~beichen.text.tokenizer.Tokenizer` with the control
tokens first (ids as in TeleChat2), then the 256 bytes, then merges. The same texts give the same file.
Any text can be encoded and comes back exactly: all 256 bytes are in the vocabulary and nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from beichen.errors import TokenizerError
from beichen.text.chat_template import chat_template
from beichen.text.pre_tokenization import split_pattern
from beichen.text.tokenizer import Tokenizer, template_settings
from beichen.text.vocabulary_folder import JSON_FILE, SETTINGS_FILE, object_file
from beichen.util.progress import SILENT, Reporter

TELECHAT2_SPECIALS = (
    "<_unk>", "<_start>", "<_end>", "<_pad>", "<_user>", "<_bot>", "<_system>", "<_observation>", "<_sep>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
)  # fmt: skip

_LONGEST_CHUNK = 1 << 16  # characters handed to the trainer at once; a document of many megabytes would be one unit of its work


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: str = "han",
    special_tokens: Sequence[str] = TELECHAT2_SPECIALS,
    template: str = "telechat2",
    start: str = "<_start>",
    end: str = "<_end>",
    pad: str = "<_pad>",
    unknown: str = "<_unk>",
    reporter: Reporter = SILENT,
) -> Tokenizer:
    """A tokenizer of exactly ``vocab_size`` ids, or of fewer when the texts are too few for so many merges."""
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        raise TokenizerError(
            f"vocab_size={vocab_size} is too small: {len(special_tokens)} control tokens and 256 bytes need {smallest}",
            remedy=f"choose at least {smallest}, better a few thousand",
        )
    if len(set(special_tokens)) != len(special_tokens):
        raise TokenizerError(f"control tokens repeat: {', '.join(special_tokens)}")
    for role, name in {"start": start, "end": end, "pad": pad, "unknown": unknown}.items():
        if name not in special_tokens:
            raise TokenizerError(f"the {role} token '{name}' is not among the control tokens {', '.join(special_tokens)}")
    missing = [name for name in chat_template(template).specials if name not in special_tokens]
    if missing:
        raise TokenizerError(f"chat template '{template}' needs control tokens that are not listed: {', '.join(missing)}")
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(split_pattern(pattern)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[tokenizers.AddedToken(name, special=True, normalized=False) for name in special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    with reporter.track(f"training a tokenizer of {vocab_size} pieces", total=None, unit="B") as task:
        seen = 0

        def counted() -> Iterator[str]:
            nonlocal seen
            for text in texts:
                for begin in range(0, len(text), _LONGEST_CHUNK):
                    chunk = text[begin : begin + _LONGEST_CHUNK]
                    seen += len(chunk)
                    task.advance(len(chunk.encode()))
                    yield chunk

        library.train_from_iterator(counted(), trainer=trainer)
    if not seen:
        raise TokenizerError("there is no text to train a tokenizer from: the corpus is empty", remedy="check the corpus files")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": start,
        "eos_token": end,
        "pad_token": pad,
        "unk_token": unknown,
        "additional_special_tokens": [name for name in special_tokens if name not in (start, end, pad, unknown)],
        "clean_up_tokenization_spaces": False,
        **template_settings(template),
    }
    files = {
        JSON_FILE: library.to_str(pretty=True).encode(),
        SETTINGS_FILE: object_file(settings),
    }
    return Tokenizer(files, origin="a tokenizer just trained")
