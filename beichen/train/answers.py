"""Greedy continuations while a model is trained: a look at what it says, no measurement.

In: a decoder, a tokenizer, prompts. Out: texts. What is served or scored is made by ``inference``, which training does not need.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from beichen.nn.cache import DenseCache
from beichen.nn.decoder import Decoder
from beichen.nn.stepping import Stepper
from beichen.text.messages import Message
from beichen.text.tokenizer import Tokenizer


@torch.no_grad()
def greedy_answers(decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], *, tokens: int, chat: bool) -> list[str]:
    """The likeliest next ids one by one, until an end or ``tokens`` of them. chat: each prompt is a user's turn, rendered as a dialogue."""
    was_training = decoder.training
    decoder.eval()
    try:
        return [tokenizer.decode(_answer(decoder, tokenizer, _ids(tokenizer, prompt, chat), tokens)) for prompt in prompts]
    finally:
        decoder.train(was_training)


def _ids(tokenizer: Tokenizer, prompt: str, chat: bool) -> list[int]:
    if not chat:
        return [tokenizer.end_id, *tokenizer.encode(prompt)]
    return tokenizer.render([Message(role="user", content=prompt)], add_generation_prompt=True).ids


def _answer(decoder: Decoder, tokenizer: Tokenizer, prompt: Sequence[int], tokens: int) -> list[int]:
    weight = decoder.head_weight
    length = len(prompt) + tokens
    cache = DenseCache(decoder.config, rows=1, capacity=length, dtype=weight.dtype, device=weight.device)
    step = Stepper(decoder, rope_length=length)
    hidden = decoder(torch.tensor([prompt], device=weight.device), cache=cache, rope_length=length)[:, -1]
    found: list[int] = []
    while len(found) < tokens:
        token = int(decoder.logits(hidden)[0].argmax())
        if token in tokenizer.stop_ids:
            break
        found.append(token)
        hidden = step(torch.tensor([token], device=weight.device), torch.tensor([cache.length], device=weight.device), None, cache)
    return found
