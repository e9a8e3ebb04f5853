"""Answers that must be JSON of a schema, match a regex, be one of some texts, or follow a grammar; by the library ``llguidance``.

In: a ``Constraint`` and a tokenizer. Out: for every answer a state that says which ids may come next. Rules: it is the text that must
fit, as the tokenizer decodes it; control tokens never come but the end, and that only where the text is complete; what a stranger
wrote costs a bounded amount of work, else it is refused, or this one answer ends with a fault that names the constraint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from beichen.errors import MissingExtraError, SettingsError
from beichen.inference.api import Constraint
from beichen.inference.constraint_limits import check_limits, written
from beichen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

_KEPT = 64  # compiled constraints
_FREE = '%llguidance {"no_forcing": true}\n'  # every way to write a text is allowed, not only the tokenizer's own
_OUTER = (_FREE + "start: @inner", _FREE + 'start: " " @inner')
# White space of JSON: a space behind a comma or a colon, as models have seen most of it, or none; nowhere else, for a model that is unsure
# what to say next would spend its tokens on spaces and line breaks, which always fit.
_JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_WORK = {"initial_lexer_fuel": 100_000, "step_lexer_fuel": 20_000, "step_max_items": 20_000, "max_items_in_row": 10_000,
         "max_lexer_states": 20_000, "max_grammar_size": 100_000, "precompute_large_lexemes": False, "verbose_errors": False}  # fmt: skip


class ConstraintCompiler:
    """Constraints over one vocabulary; compiled ones are kept for the next request that asks for the same."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)

    def check(self, constraint: Constraint) -> None:
        """Refuse what cannot be followed; afterwards ``start`` costs little."""
        self._matchers(constraint)

    def start(self, constraint: Constraint, *, stop_ids: Sequence[int] = ()) -> ConstrainedAnswer:
        """A new answer. stop_ids: what may end it; without any, what ends answers in this vocabulary."""
        ends = tuple(token for token in stop_ids if 0 <= token < self.tokenizer.vocab_size) or self.tokenizer.stop_ids
        matchers = [matcher.deep_copy() for matcher in self._matchers(constraint)]
        return ConstrainedAnswer(constraint.name, matchers, tokenizer=self.tokenizer, end_ids=ends, spaced=self._spaced)

    def _matchers(self, constraint: Constraint) -> tuple[LLMatcher, ...]:
        try:
            check_limits(constraint)
            return self._compiled(constraint.name, written(constraint))
        except SettingsError as fault:
            fault.field = constraint.name
            raise

    def _compile(self, name: str, text: str) -> tuple[LLMatcher, ...]:
        """One that begins at the text; where a vocabulary puts a space before every text, another that reads this space first."""
        llguidance = _library()
        try:
            inner = _grammar(llguidance, name, text)
        except ValueError as fault:
            raise SettingsError(f"{name}: {fault}") from fault
        outer = _OUTER if self._spaced is not None else _OUTER[:1]
        grammars = [[{"lark_grammar": one}, {**inner, "name": "inner"}] for one in outer]
        limits = llguidance.LLParserLimits(**_WORK)
        matchers = tuple(
            llguidance.LLMatcher(self._vocabulary, json.dumps({"grammars": one}), log_level=0, limits=limits) for one in grammars
        )
        for matcher in matchers:
            first = matcher.deep_copy()
            possible = not first.is_error() and any(first.compute_logit_bias())
            if first.is_error() or not possible:
                why = _first_lines(first.get_error()) or "no text fulfils it with this vocabulary"
                raise SettingsError(f"{name}: {why}")
        return matchers

    @cached_property
    def _vocabulary(self) -> Any:
        library, tokenizer = _library(), self.tokenizer
        return library.LLTokenizer(library.TokenizerWrapper(_Pieces(tokenizer)), n_vocab=tokenizer.vocab_size)

    @cached_property
    def _spaced(self) -> np.ndarray | None:
        """Ids whose bytes begin with a space, where the first space of a text is not part of it."""
        if not self.tokenizer.strips_first_space:
            return None
        return np.array([piece.startswith(b" ") for piece in self.tokenizer.engine.pieces])


class ConstrainedAnswer:
    """Where one answer stands (``sampling.ConstraintState``)."""

    def __init__(
        self, name: str, matchers: list[LLMatcher], *, tokenizer: Tokenizer, end_ids: tuple[int, ...], spaced: np.ndarray | None
    ) -> None:
        self.end_ids = end_ids
        self._vocab_size, self._end_id = tokenizer.vocab_size, tokenizer.end_id
        self.fault: SettingsError | None = None
        self._name, self._matchers, self._spaced = name, matchers, spaced
        self._ended = False
        self._mask: np.ndarray | None = None

    def allowed(self) -> np.ndarray:
        """Which ids may come next, bool [ids of the tokenizer]; at least one."""
        if self._mask is None:
            self._mask = self._next_ids()
        return self._mask

    def note(self, token: int) -> None:
        """The id that came."""
        self._mask = None
        if self._ended or self.fault is not None:
            return
        if token in self.end_ids:
            self._ended = True
            return
        if len(self._matchers) > 1:
            assert self._spaced is not None
            self._matchers = [self._matchers[int(self._spaced[token])]]
        if not self._matchers[0].consume_token(token):
            self._give_up(self._matchers[0].get_error())

    def _next_ids(self) -> np.ndarray:
        masks = [] if self._ended or self.fault is not None else [self._of(matcher) for matcher in self._matchers]
        if not masks or self.fault is not None:
            return self._only_ends()
        mask = masks[0]
        if len(masks) > 1:
            assert self._spaced is not None
            mask = np.where(self._spaced, masks[1], mask)
        may_end = bool(masks[0][self._end_id])
        mask[[self._end_id, *self.end_ids]] = False
        mask[list(self.end_ids)] = may_end
        if not mask.any():
            self._give_up("this vocabulary has no way to go on")
            return self._only_ends()
        return mask

    def _of(self, matcher: LLMatcher) -> np.ndarray:
        mask = np.frombuffer(matcher.compute_logit_bias(), dtype=np.uint8) != 0
        if matcher.is_error() and not mask.any():
            self._give_up(matcher.get_error())
        return mask

    def _only_ends(self) -> np.ndarray:
        mask = np.zeros(self._vocab_size, dtype=bool)
        mask[list(self.end_ids)] = True
        return mask

    def _give_up(self, why: str) -> None:
        self.fault = SettingsError(f"{self._name}: cannot be followed any further: {_first_lines(why)}", field=self._name)


class _Pieces:
    """A tokenizer as the library wants to see it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = tokenizer.end_id, None
        self.tokens = list(tokenizer.engine.pieces)
        self.special_token_ids = sorted({*tokenizer.special_ids.values(), *tokenizer.stop_ids})

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, continues=True)


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtraError("llguidance", extra="constrain", purpose="an answer under a constraint") from error
    return llguidance


def _grammar(library: Any, name: str, text: str) -> dict[str, Any]:
    matcher = library.LLMatcher
    if name == "regex":
        return dict(json.loads(matcher.grammar_from_regex(text))["grammars"][0])
    if name == "lark":
        return {"lark_grammar": text}
    if name == "choices":
        return {"lark_grammar": "start: " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in json.loads(text))}
    schema = '{"type": "object"}' if name == "json_object" else text
    options = {**_JSON_FORM, "lenient": False, "coerce_one_of": False}
    return dict(json.loads(matcher.grammar_from_json_schema(schema, overrides=options))["grammars"][0])


def _first_lines(error: str) -> str:
    return " ".join(error.removesuffix("<non-verbose/>").split())[:300]
