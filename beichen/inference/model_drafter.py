"""Drafts of a smaller model with the same vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from beichen.errors import SettingsError
from beichen.inference.api import Request
from beichen.inference.engine import Engine
from beichen.nn.decoder import Decoder

BLOCK_SIZE = 16  # what is not in a whole block is read again at every draft: small blocks, little of that
KV_BYTES = 1 << 28


class ModelDrafter:
    """A small decoder that goes on greedily. What it has read of a text stays in an engine of its own, found by its content."""

    def __init__(self, decoder: Decoder, *, vocab_size: int, kv_bytes: int = KV_BYTES) -> None:
        """vocab_size: of the model that is drafted for. Raises SettingsError where the small one knows fewer ids."""
        if decoder.config.vocab_size < vocab_size:
            raise SettingsError(
                f"the drafting model knows {decoder.config.vocab_size} ids, the model that it drafts for {vocab_size}",
                remedy="both must have the same tokenizer",
            )
        self._engine = Engine(decoder, vocab_size=vocab_size, kv_bytes=kv_bytes, block_size=BLOCK_SIZE)

    def draft(self, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> list[list[int]]:
        """As ``Drafter`` says; nothing for a text that its cache cannot hold."""
        engine = self._engine
        most = engine.blocks.count * engine.blocks.size
        running = {
            number: engine.submit(Request(prompt_ids=text, max_new_tokens=count))
            for number, (text, count) in enumerate(zip(texts, counts, strict=True))
            if count and len(text) + count <= most
        }
        while engine.busy:
            engine.step()
        return [list(running[number].ids[len(text) :]) if number in running else [] for number, text in enumerate(texts)]
