"""What to train and from what: settings that are checked once, and sources of texts that can be read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from beichen.errors import TokenizerError
from beichen.text.chat_template import chat_template
from beichen.text.normalization import ordered_steps
from beichen.text.pre_tokenization import split_pattern
from beichen.text.training.special_tokens import SpecialTokens
from beichen.text.training.writing import spelled_bytes
from beichen.util.quantities import byte_count

TELECHAT2_SPECIALS = (
    "<_unk>", "<_start>", "<_end>", "<_pad>", "<_user>", "<_bot>", "<_system>", "<_observation>", "<_sep>",
    "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
)  # fmt: skip

DEFAULT_MEMORY = 2 << 30
LEAST_MEMORY = 64 << 20


@dataclass(frozen=True)
class TextSource:
    """Texts that can be read again from the start.

    ``read`` takes a function that it tells how many bytes it has taken from disk. ``identity`` says whether the texts are still the same
    (size and time of a file); ``size``: the bytes on disk, or ``None`` where the texts come from elsewhere.
    """

    name: str
    read: Callable[[Callable[[int], None]], Iterable[str]]
    identity: Any = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What to train."""

    vocab_size: int
    pattern: str = "han"
    specials: SpecialTokens = field(default_factory=lambda: SpecialTokens(names=TELECHAT2_SPECIALS))
    template: str | None = "telechat2"
    start: str | None = "<_start>"
    end: str = "<_end>"
    pad: str | None = "<_pad>"
    unknown: str | None = "<_unk>"
    normalization: Sequence[str] = ()
    memory: int = DEFAULT_MEMORY
    workers: int | None = None
    sample_below: int = 1

    def __post_init__(self) -> None:
        smallest = 256 + len(self.specials.all_names)
        if self.vocab_size < smallest:
            raise TokenizerError(
                f"vocab_size={self.vocab_size} is too small: {len(self.specials.all_names)} control tokens and 256 bytes need {smallest}",
                remedy=f"choose at least {smallest}, better a few thousand",
            )
        for role, name in {"start": self.start, "end": self.end, "pad": self.pad, "unknown": self.unknown}.items():
            if name is not None and name not in self.specials.all_names:
                raise TokenizerError(f"the {role} token '{name}' is not among the control tokens {', '.join(self.specials.all_names)}")
        if self.template is not None:
            missing = [name for name in chat_template(self.template).specials if name not in self.specials.all_names]
            if missing:
                raise TokenizerError(
                    f"chat template '{self.template}' needs control tokens that are not listed: {', '.join(missing)}",
                    remedy="list them, or choose another template",
                )
        if self.memory < LEAST_MEMORY:
            raise TokenizerError(f"memory={self.memory} is too little: at least {byte_count(LEAST_MEMORY)} are needed")
        if self.sample_below < 1 or (self.workers is not None and self.workers < 1):
            raise TokenizerError("sample_below and workers are at least 1")
        one_letter = [name for name in self.specials.all_names if len(spelled_bytes(name) or b"") == 1]
        if one_letter:
            raise TokenizerError(f"the control token '{one_letter[0]}' is spelled like a byte", remedy="choose a longer name")
        split_pattern(self.pattern)
        ordered_steps(self.normalization)

    @property
    def roles(self) -> dict[str, str]:
        named = {"bos_token": self.start, "eos_token": self.end, "pad_token": self.pad, "unk_token": self.unknown}
        return {key: name for key, name in named.items() if name is not None}
