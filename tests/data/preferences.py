"""What the tests of preferences share: a tokenizer of bytes with a chat format, and random pairs and rated dialogues."""

from __future__ import annotations

import random
from typing import Any

from beichen.data.account import Account, BadInput
from beichen.data.dialogue_settings import DialogueSettings
from beichen.data.preference_tokens import PreferenceTokens, collect_preferences
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.messages import Message, Preference, RatedDialogue
from beichen.text.tokenizer import Tokenizer

TOKENIZER: Tokenizer = train_tokenizer(["天气很好 a cat sat"], vocab_size=300, template="telechat2-bare")


def messages(*turns: str) -> list[Message]:
    return [Message(role="assistant" if place % 2 else "user", content=text) for place, text in enumerate(turns)]


def answer(text: str) -> list[Message]:
    return [Message(role="assistant", content=text)]


def letters(rng: random.Random, longest: int) -> str:
    return "".join(rng.choice("abcdefgh") for _ in range(rng.randint(1, longest)))


def random_pairs(count: int, *, longest: int = 6, seed: int = 0) -> list[Preference]:
    rng = random.Random(seed)
    return [
        Preference(
            prompt=messages(*(letters(rng, longest) for _ in range(rng.choice([1, 3])))), chosen=answer("A" + letters(rng, longest)),
            rejected=answer("B" + letters(rng, longest)), origin=f"pairs.jsonl:{place + 1}",
        )
        for place in range(count)
    ]  # fmt: skip


def random_rated(count: int, *, longest: int = 6, seed: int = 0) -> list[RatedDialogue]:
    rng = random.Random(seed)
    return [
        RatedDialogue(
            messages=[*messages(letters(rng, longest)), *answer(f"{place}" + letters(rng, longest))], good=rng.random() < 0.6,
            origin=f"rated.jsonl:{place + 1}",
        )
        for place in range(count)
    ]  # fmt: skip


def collected(samples: Any, *, sequence_length: int = 96, paired: bool = True, **changes: Any) -> PreferenceTokens:
    how: dict[str, Any] = {"settings": DialogueSettings(), "held_out_fraction": 0.0, "seed": 0, "bad": bad_input()}
    return collect_preferences(samples, TOKENIZER, paired=paired, sequence_length=sequence_length, **{**how, **changes})


def bad_input(on_bad: Any = "raise") -> BadInput:
    return BadInput(on_bad, Account(item="preferences", unit="tokens"))
