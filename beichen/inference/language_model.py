"""``LanguageModel``: a folder as one object that gives logits, continues texts, and chats; what ``beichen.load`` returns.

Comes in: text, ids or messages. Goes out: logits [batch, tokens, vocab] float32, ``Completion`` or a stream of ``Delta`` (both
print as their text). Rule: text never becomes a control token; only templates insert those.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from beichen.checkpoints.adapter_loading import load_adapted
from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.errors import SettingsError, TokenizerError, nearest
from beichen.inference.adapter_batches import check_adapter
from beichen.inference.api import Completion, Constraint, Delta, Request, SamplingSettings
from beichen.inference.generation import DecoderGenerator
from beichen.inference.generation_defaults import GenerationDefaults, read_generation_defaults
from beichen.inference.model_folder import open_folder
from beichen.inference.named_adapters import Adapter, find_adapters, open_adapters
from beichen.inference.padding import interval_of, real_columns
from beichen.inference.rotations import rope_key
from beichen.models.adapters import adapted_layers
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.quantized import KINDS, Kind, kind_of
from beichen.text.messages import Message
from beichen.text.special_ids import check_special_ids
from beichen.text.tokenizer import Tokenizer
from beichen.util.device import choose_device, choose_dtype
from beichen.util.progress import SILENT, Reporter
from beichen.util.random import keyed_seed

Messages = Sequence[Message | Mapping[str, Any]]
MAX_NEW_TOKENS = 256


class LanguageModel:
    """A decoder with its tokenizer and the folder's own words about itself."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer | None, *, family: str, published: Mapping[str, Any] | None = None,
        folder: Path | None = None, defaults: GenerationDefaults | None = None, adapters: Mapping[str, Adapter] | None = None,
    ) -> None:  # fmt: skip
        """published: the config the weights came with. folder: where they came from; its side files go along when saving. defaults: how it
        answers when nobody says otherwise. adapters: those that may move it, by name (``with_adapter``)."""
        self.decoder, self.family, self.published, self.folder = decoder, family, published, folder
        self.defaults = defaults or GenerationDefaults()
        self._tokenizer = tokenizer
        self.stop_ids: tuple[int, ...] = () if tokenizer is None else tokenizer.stop_ids
        self.notes: tuple[str, ...] = ()  # what the folder's files say of tokens and is not followed
        if tokenizer is not None:
            checked = check_special_ids(
                tokenizer, vocab_size=decoder.config.vocab_size, config=published or {}, generation=self.defaults.tokens,
                origin=str(folder or "this model"),
            )  # fmt: skip
            self.stop_ids, self.notes = checked.stop_ids, checked.notes
        self.adapters = dict(adapters or {})
        self.adapter: str | None = None  # the one that moves it
        self.generator = DecoderGenerator(decoder, tokenizer, adapters={name: one.updates for name, one in self.adapters.items()})

    @property
    def config(self) -> DecoderConfig:
        """What the decoder is."""
        return self.decoder.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back. Raises TokenizerError where the folder has none."""
        if self._tokenizer is None:
            raise TokenizerError(
                f"{self.folder or 'this model'}: has no tokenizer",
                remedy="put the tokenizer's files into the folder, or work with ids",
            )
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.device

    @property
    def max_length(self) -> int:
        """The trained length in tokens, prompt and answer together."""
        return self.config.max_position_embeddings

    def with_adapter(self, name: str) -> LanguageModel:
        """This model moved by one of its adapters, in its chat format; both may answer at the same time, over the same weights. Raises
        SettingsError for a name that it was not loaded with."""
        check_adapter(self.generator.adapters, name)
        other, adapter = copy.copy(self), self.adapters[name]
        other.adapter, other.defaults = name, adapter.defaults or self.defaults
        if adapter.tokenizer is not None:
            other._tokenizer, other.stop_ids = adapter.tokenizer, adapter.tokenizer.stop_ids
        return other

    @torch.inference_mode()
    def __call__(self, ids: Tensor | Sequence[int] | Sequence[Sequence[int]], attention_mask: Tensor | None = None) -> Tensor:
        """Logits [batch, tokens, vocab] float32 for ids [tokens] or [batch, tokens].

        attention_mask [batch, tokens]: 0 marks padding, on the left, the right or both; logits of padding mean nothing.
        Raises SettingsError for what is no such ids, and for ids that the model does not know.
        """
        try:
            input_ids = torch.as_tensor(ids, dtype=torch.int64, device=self.device)
        except (TypeError, ValueError) as fault:
            raise SettingsError(
                f"logits are of ids, [tokens] or [batch, tokens] of one length; got {type(ids).__name__}",
                remedy="model.tokenizer.encode makes ids of a text; model.generate and model.chat take texts",
            ) from fault
        if input_ids.dim() == 1:
            input_ids = input_ids[None]
        if input_ids.dim() != 2 or not input_ids.numel():
            raise SettingsError(f"ids have the shape {list(input_ids.shape)}: expected [tokens] or [batch, tokens], at least one token")
        if int(input_ids.min()) < 0 or int(input_ids.max()) >= self.config.vocab_size:
            raise SettingsError(
                f"ids go from {int(input_ids.min())} to {int(input_ids.max())}, the model knows 0 to {self.config.vocab_size - 1}"
            )
        updates = None if self.adapter is None else self.adapters[self.adapter].updates
        if attention_mask is None:
            return self.decoder.logits(self.decoder(input_ids, updates=updates))
        start, stop = real_columns(torch.as_tensor(attention_mask, device=self.device), input_ids)
        positions, first_visible = interval_of(start, stop, torch.arange(input_ids.shape[1], device=self.device))
        logits = torch.empty(*input_ids.shape, self.config.vocab_size, device=self.device)
        lengths = (stop - start).tolist()
        for rule in {rope_key(self.config, length) for length in lengths}:  # one, within the trained length
            rows = [row for row, length in enumerate(lengths) if rope_key(self.config, length) == rule]
            longest = max(lengths[row] for row in rows)
            hidden = self.decoder(
                input_ids[rows], positions=positions[rows], first_visible=first_visible[rows], rope_length=longest, updates=updates
            )
            logits[rows] = self.decoder.logits(hidden)
        return logits

    def request(
        self, prompt: str | Sequence[int], *, max_new_tokens: int | None = None, stop: str | Sequence[str] = (),
        stop_ids: Sequence[int] | None = None, min_new_tokens: int | None = None, constraint: Constraint | None = None,
        logprobs: int | None = None, prompt_logprobs: int | None = None, shown_tokens: Sequence[str] = (), priority: int = 0,
        owner: str = "", **sampling: Any,
    ) -> Request:  # fmt: skip
        """A prompt as the generator takes it; what is not stated is as generation_config.json says, if it does.

        max_new_tokens: default ``MAX_NEW_TOKENS``, and never beyond the trained length. stop_ids: default where this model's answers
        end. min_new_tokens and all that follow: as ``Request`` has them. sampling: those of ``SamplingSettings``.
        Raises SettingsError for a setting that is unknown or out of range, and where no room is left for an answer; TokenizerError for
        a text where there is no tokenizer.
        """
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
        if stop_ids is None:
            stop_ids = self.stop_ids
        if max_new_tokens is None:
            max_new_tokens = min(self.defaults.new_tokens(len(ids)) or MAX_NEW_TOKENS, self.max_length - len(ids))
            if max_new_tokens < 1:
                raise SettingsError(
                    f"the prompt has {len(ids)} tokens, and the model was trained on {self.max_length}: no room for an answer",
                    remedy="shorten it, or state max_new_tokens to go beyond the trained length",
                )
        return Request(
            prompt_ids=ids, max_new_tokens=max_new_tokens, stop_ids=tuple(stop_ids),
            stop_strings=((stop,) if isinstance(stop, str) else tuple(stop)) or self.defaults.stop_strings,
            sampling=sampling_settings(**self.defaults.sampling(sampling)), constraint=constraint,
            min_new_tokens=min(self.defaults.min_new_tokens or 0, max_new_tokens) if min_new_tokens is None else min_new_tokens,
            logprobs=logprobs, prompt_logprobs=prompt_logprobs, shown_tokens=tuple(shown_tokens), priority=priority, owner=owner,
            adapter=self.adapter,
        )  # fmt: skip

    @overload
    def generate(self, prompt: str | Sequence[int], **settings: Any) -> Completion: ...

    @overload
    def generate(self, prompt: Sequence[str] | Sequence[Sequence[int]], **settings: Any) -> list[Completion]: ...

    def generate(self, prompt: Any, **settings: Any) -> Completion | list[Completion]:
        """Continue a text or ids, or a list of those at once. ``settings`` as for ``request``.

        With a ``seed``, every prompt of a list draws from a seed of its own, made from it. Raises as ``request`` does, and
        SettingsError for what could never be answered, before anything is computed.
        """
        if isinstance(prompt, Tensor):
            prompt = prompt.tolist()
        if isinstance(prompt, str) or (isinstance(prompt, Sequence) and len(prompt) and isinstance(prompt[0], int)):
            return self.generator.generate([self.request(prompt, **settings)])[0]
        if not isinstance(prompt, Sequence):
            raise SettingsError(f"a prompt is a text, ids, or a list of those; got {type(prompt).__name__}")
        requests = [self.request(one, **numbered(settings, number)) for number, one in enumerate(prompt)]
        return self.generator.generate(requests)

    def stream(self, prompt: str | Sequence[int], **settings: Any) -> Iterator[Delta]:
        """Continue one text or ids, piece by piece. Raises as ``generate`` does."""
        return self.generator.stream(self.request(prompt, **settings))

    def chat_request(
        self, messages: Messages, *, tools: Sequence[Mapping[str, Any]] = (), thinking: bool | None = None, **settings: Any
    ) -> Request:
        """The next turn of a dialogue as the generator takes it. thinking: whether to think first, in formats that have it. Raises
        TemplateError for messages that the chat format cannot say; all else as ``request`` does."""
        ids = self.tokenizer.render(messages, tools=tools, add_generation_prompt=True, thinking=thinking).ids
        return self.request(ids, **settings)

    @overload
    def chat(self, messages: Messages, *, stream: Literal[False] = False, **settings: Any) -> Completion: ...

    @overload
    def chat(self, messages: Messages, *, stream: Literal[True], **settings: Any) -> Iterator[Delta]: ...

    def chat(self, messages: Messages, *, stream: bool = False, **settings: Any) -> Completion | Iterator[Delta]:
        """The assistant's next turn, whole or piece by piece. ``settings``: ``tools``, ``thinking`` and those of ``request``. Raises as
        ``chat_request`` and ``generate`` do."""
        request = self.chat_request(messages, **settings)
        return self.generator.stream(request) if stream else self.generator.generate([request])[0]

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None, replace: bool = False) -> None:
        """Write a folder in published layout that ``beichen.load`` and ``beichen chat`` open; ``replace`` one that stands there. Raises
        SettingsError for a model with an adapter on it or quantized, StorageError for a folder that is not empty or cannot be written."""
        if adapted_layers(self.decoder) or kind_of(self.decoder) is not None:
            raise SettingsError(f"{folder}: a model with an adapter is not saved as a whole", remedy="fold it into its base: beichen merge")
        extra = () if self._tokenizer is None else (self._tokenizer.save,)
        save_checkpoint(
            folder, self.decoder, family=self.family, published=self.published, source=self.folder, write_extra=extra, dtype=dtype,
            replace=replace,
        )  # fmt: skip


def load(
    folder: str | Path, *, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None,
    compatibility: str | Iterable[str] = (), template: str | None = None, base: str | Path | None = None, quantize: Kind | None = None,
    adapters: Mapping[str, str | Path] | None = None, reporter: Reporter = SILENT,
) -> LanguageModel:  # fmt: skip
    """The model in a folder, or by name: 'hf:org/name@revision' (Hugging Face), 'ms:org/name' (ModelScope); or an adapter with its base.

    device: 'cpu', 'cuda', ...; dtype: 'float32', 'bfloat16', ...; both chosen for the machine if left out.

    compatibility: faults of the original code to be computed with, by name (docs/models.md lists them); none, unless asked for.
    template: another chat format than the folder's, by name (docs/tokenizers.md lists them).
    base: where the base of an adapter is, if not where it was when the adapter was trained.
    quantize: hold the matrices of linear layers as 'int8' or 'nf4'; as for ``load_checkpoint``.
    adapters: folders of adapters over this base, by the names under which ``with_adapter`` gives them.

    Raises CheckpointError for weights that are missing, damaged, out of reach or not the adapter's base; ConfigError for a model that is
    not understood; TokenizerError, TemplateError and DeviceError for what is broken or unknown of these; SettingsError for arguments that
    do not go together. All are BeichenError.
    """
    place = choose_device(device if device is None else str(device))
    number_format = dtype if isinstance(dtype, torch.dtype) else choose_dtype(dtype, place)
    if quantize is not None and quantize not in KINDS:
        raise SettingsError(f"quantize={quantize}: expected {' or '.join(KINDS)}{nearest(str(quantize), KINDS)}")
    faults = (compatibility,) if isinstance(compatibility, str) else compatibility
    opened = open_folder(folder, base=base, reporter=reporter)
    path, weights = opened.path, opened.weights
    if opened.holds_adapter and adapters:
        raise SettingsError(
            f"{path} is an adapter itself, which others cannot stand beside",
            remedy="give the base's folder, and this one as one more adapter",
        )
    tokenizer = opened.tokenizer(template=template)
    found = find_adapters(adapters or {}, tokenizer, template=template, default_template=opened.chat_template, reporter=reporter)
    if opened.holds_adapter:
        checkpoint = load_adapted(
            path, base=weights, device=place, dtype=number_format, compatibility=faults, quantize=quantize, reporter=reporter
        ).checkpoint
    else:
        checkpoint = load_checkpoint(path, device=place, dtype=number_format, compatibility=faults, quantize=quantize, reporter=reporter)
    return LanguageModel(
        checkpoint.decoder, tokenizer, family=checkpoint.family, published=checkpoint.published, folder=weights,
        defaults=read_generation_defaults(opened.beside), adapters=open_adapters(found, checkpoint, weights, reporter=reporter),
    )  # fmt: skip


def sampling_settings(**given: Any) -> SamplingSettings:
    """``SamplingSettings`` from keyword arguments. Raises SettingsError that names an unknown one, or one out of range."""
    known = SamplingSettings.__dataclass_fields__
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        every = [*known, "max_new_tokens", "min_new_tokens", "stop", "stop_ids", "constraint", "logprobs", "prompt_logprobs"]
        raise SettingsError(f"unknown setting '{unknown}'{nearest(unknown, every)}", remedy=f"one of: {', '.join(every)}")
    return SamplingSettings(**given)


def numbered(settings: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The settings of prompt ``number`` of a list: a seed of its own, if there is one; the first keeps the given seed."""
    seed = settings.get("seed")
    return dict(settings) if seed is None or not number else {**settings, "seed": keyed_seed(seed, "prompt", number)}
