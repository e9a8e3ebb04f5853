"""One answer while its ids come: from what the engine has chosen to text, logprobs and the reason of its end."""

from __future__ import annotations

from beichen.inference.api import Completion, Delta, FinishReason, Request
from beichen.inference.engine import Engine
from beichen.inference.sampling import ConstraintState
from beichen.inference.stopping import AnswerText, text_of
from beichen.text.tokenizer import Tokenizer
from beichen.util.parts import done


class Answer:
    """Submits its request; its text is followed only where somebody needs it on the way."""

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer | None, request: Request, *,
        constraint: ConstraintState | None = None, number: int = 0, streamed: bool = False,
    ) -> None:  # fmt: skip
        """streamed: text is wanted as it comes (``next``), not at the end alone. constraint, number: as ``Engine.submit`` has them."""
        self.sequence = engine.submit(request, number=number, constraint=constraint)
        self.ids: list[int] = []
        self.reason: FinishReason | None = None
        self._tokenizer, self._engine, self._request = tokenizer, engine, request
        self._text: AnswerText | None = None
        if streamed or request.stop_strings or request.shown_tokens:
            self._text = AnswerText(tokenizer, request.stop_strings, min_new_tokens=request.min_new_tokens, shown=request.shown_tokens)
        self._shown = ""
        self._said = 0  # ids that ``next`` has given

    @property
    def behind(self) -> bool:
        """Whether the engine has brought more than was followed."""
        return self.sequence.finish_reason is not None or len(self.sequence.ids) > len(self._request.prompt_ids) + len(self.ids)

    @property
    def urgent(self) -> bool:
        """Whether what has come must be followed now: it has ended, or its text may end it."""
        return self.sequence.finish_reason is not None or self.sequence.fault is not None or bool(self._request.stop_strings)

    def follow(self) -> str:
        """Take up what has come.  -> the text that it makes certain. Raises what kept the answer from going on as it was asked for."""
        if self.sequence.fault is not None:
            raise self.sequence.fault
        shown = ""
        for token in self.sequence.ids[len(self._request.prompt_ids) + len(self.ids) :]:
            if token in self.sequence.row.stop_ids:
                break
            self.ids.append(token)
            if self._text is None:
                continue
            shown += self._text.push(token)
            if self._text.stopped:
                self.reason = "stop"
                self._engine.end(self.sequence, "stop")
                break
        self.reason = self.reason or self.sequence.finish_reason
        if self.reason is not None and self._text is not None:
            shown += self._text.finish()
        self._shown += shown
        return shown

    def next(self) -> Delta | None:
        """What can be said now, if anything; the last delta has the reason of the end. Raises as ``follow`` does."""
        text = self.follow()
        if not text and self.reason is None:
            return None
        begin, self._said = self._said, len(self.ids)
        told = None if self._request.logprobs is None else tuple(self.sequence.logprobs[begin : self._said])
        return Delta(text=text, ids=tuple(self.ids[begin:]), logprobs=told, finish_reason=self.reason)

    def cancel(self) -> None:
        """Nobody wants the rest."""
        self._engine.cancel(self.sequence)

    def completion(self) -> Completion:
        """The whole, once it has ended."""
        assert self.reason is not None, "the answer goes on"
        return Completion(
            text=text_of(self._tokenizer, self.ids) if self._text is None else self._shown, ids=tuple(self.ids), finish_reason=self.reason,
            logprobs=None if self._request.logprobs is None else tuple(self.sequence.logprobs[: len(self.ids)]),
            prompt_logprobs=None if self._request.prompt_logprobs is None else done(self._engine.prompt_logprobs(self._request)),
        )  # fmt: skip
