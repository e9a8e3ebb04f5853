"""Greedy continuations while a model is trained: a look at what it says, no measurement.

In: a decoder, a tokenizer, prompts. Out: texts. What is served or scored is made by ``inference``, which training does not need.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from beichen.nn.decoder import Decoder
from beichen.nn.greedy import greedy_logits
from beichen.text.messages import Message
from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import Tokenizer


@torch.no_grad()
def greedy_answers(decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], *, tokens: int, chat: bool) -> list[str]:
    """The likeliest next ids one by one, until an end or ``tokens`` of them. chat: each prompt is a user's turn, rendered as a dialogue."""
    was_training = decoder.training
    decoder.eval()
    try:
        return [_whole_characters(tokenizer, _answer(decoder, tokenizer, _ids(tokenizer, prompt, chat), tokens)) for prompt in prompts]
    finally:
        decoder.train(was_training)


def _whole_characters(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text, without the beginning of a character whose other ids did not come."""
    decoder = IncrementalDecoder(tokenizer)
    return "".join([decoder.push(token) for token in ids])


def _ids(tokenizer: Tokenizer, prompt: str, chat: bool) -> list[int]:
    if not chat:
        return [tokenizer.end_id, *tokenizer.encode(prompt)]
    return tokenizer.render([Message(role="user", content=prompt)], add_generation_prompt=True).ids


def _answer(decoder: Decoder, tokenizer: Tokenizer, prompt: Sequence[int], tokens: int) -> list[int]:
    found: list[int] = []
    ids = torch.tensor(prompt, device=decoder.device)
    for logits in greedy_logits(decoder, ids, length=len(prompt) + tokens):
        token = int(logits.argmax())
        if token in tokenizer.stop_ids:
            break
        found.append(token)
    return found
