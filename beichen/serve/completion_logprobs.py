"""``logprobs`` of text completions, where tokens go by their names alone.

Comes in: ids with what the engine tells of them. Goes out: names, values and places in the text. Rules: tokens that differ have names that
differ, so one that is a part of a character goes by its bytes, as in OpenAI's older models: ``bytes:\\xe4\\xbd``; of two tokens with the
same bytes the likelier one is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from beichen.inference.logprobs import Told
from beichen.serve.schemas.chat import LEAST_LOGPROB
from beichen.serve.schemas.completions import CompletionLogprobs
from beichen.text.stream import IncrementalDecoder
from beichen.text.tokenizer import Tokenizer


class LogprobReader:
    """Of one prompt or one answer, whose ids are read in their order. offset: characters that have been told before it."""

    def __init__(self, tokenizer: Tokenizer, *, offset: int = 0) -> None:
        self._tokenizer, self._offset = tokenizer, offset
        self._decoder = IncrementalDecoder(tokenizer)

    def read(self, ids: Sequence[int], told: Told) -> CompletionLogprobs:
        """As clients get it; nothing is known of a prompt's first id."""
        values = [None if one is None else max(one.logprob, LEAST_LOGPROB) for one in told]
        return CompletionLogprobs(
            tokens=[token_name(self._tokenizer, token) for token in ids],
            token_logprobs=values,
            top_logprobs=[None if one is None else self._named(one.top) for one in told],
            text_offset=[self._place(token) for token in ids],
        )

    def _named(self, top: Sequence[tuple[int, float]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for token, value in top:
            name = token_name(self._tokenizer, token)
            found[name] = max(value, found.get(name, LEAST_LOGPROB))
        return found

    def _place(self, token: int) -> int:
        """Where the character begins that the token begins or goes on with."""
        place = self._offset
        self._offset += len(self._decoder.push(token))
        return place


def joined(before: CompletionLogprobs, behind: CompletionLogprobs) -> CompletionLogprobs:
    """Those of a prompt and of the answer behind it."""
    return CompletionLogprobs(
        tokens=before.tokens + behind.tokens,
        token_logprobs=before.token_logprobs + behind.token_logprobs,
        top_logprobs=[*(before.top_logprobs or ()), *(behind.top_logprobs or ())],
        text_offset=before.text_offset + behind.text_offset,
    )


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """Its text, or its bytes where they are none."""
    spelled = tokenizer.token_bytes(token)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
