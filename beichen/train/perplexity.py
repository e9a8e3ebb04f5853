"""Perplexity by length: the same text in windows of each length, every position scored; what a model makes of longer contexts.

In: a decoder, ids of a text, lengths. Out: perplexity at each. Rule: all lengths score the same text, so only the context differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from beichen.data.readers import TextUnit
from beichen.data.sources import read_documents
from beichen.data.split import split_position
from beichen.errors import DataError
from beichen.nn.cross_entropy import position_losses
from beichen.nn.decoder import Decoder
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter


def read_ids(
    files: Iterable[str], tokenizer: Tokenizer, *, tokens: int, held_out: float = 1.0, text_key: str | None = None,
    text_unit: TextUnit = "pieces",
) -> list[int]:  # fmt: skip
    """The first so many ids of the files' documents, each ended by the end token.

    held_out: only the documents that a run with this ``data.held_out_fraction`` keeps out of training. text_key, text_unit: as
    ``read_documents`` has them.
    """
    ids: list[int] = []
    for document in read_documents(files, text_key=text_key, text_unit=text_unit):
        if split_position(document.text) >= held_out:
            continue
        ids += [*tokenizer.encode(document.text), tokenizer.end_id]
        if len(ids) > tokens:
            break
    return ids[: tokens + 1]


@torch.no_grad()
def perplexity_by_length(
    decoder: Decoder, ids: Sequence[int], lengths: Sequence[int], *, tokens_at_once: int = 8192, reporter: Reporter = SILENT
) -> dict[int, float]:  # fmt: skip
    """exp of the mean loss over windows that lie side by side; lengths divide the longest. Raises DataError for too little text."""
    longest = max(lengths)
    if any(longest % length for length in lengths):
        raise DataError(f"lengths {', '.join(map(str, lengths))}: each must divide the longest, so that all score the same text")
    count = (len(ids) - 1) // longest * longest
    if count < longest:
        raise DataError(
            f"the text has {len(ids)} tokens: one window of {longest} needs {longest + 1}", remedy="give more text, or shorter lengths"
        )
    device, was_training = next(decoder.parameters()).device, decoder.training
    decoder.eval()
    text = torch.tensor(ids[: count + 1], device=device)
    found = {}
    with reporter.track("perplexity", total=len(lengths) * count, unit="tokens") as task:
        for length in lengths:
            nats, rows = 0.0, max(1, tokens_at_once // length)
            for begin in range(0, count, rows * length):
                end = min(begin + rows * length, count)
                hidden = decoder(text[begin:end].view(-1, length))
                wanted = text[begin + 1 : end + 1]
                losses = position_losses(hidden.flatten(0, 1), decoder.head_weight, wanted, logit_scale=decoder.config.logit_scale)
                nats += float(losses.double().sum())
                task.advance(end - begin)
            found[length] = math.exp(nats / count)
    decoder.train(was_training)
    return found
