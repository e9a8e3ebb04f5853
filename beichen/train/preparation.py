"""From a recipe to the parts of a run: tokenizer, decoder, rows to train on, held-out text.

What takes long and can be reused (tokenizer, encoded text) is kept in the run's folder and found again when the run resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.tokenizers import load_tokenizer
from beichen.data.encoded_text import open_encoded_text
from beichen.data.encoding import check_divisible
from beichen.data.sources import read_documents
from beichen.data.split import split_position
from beichen.errors import SettingsError
from beichen.models.registry import load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.initialization import initialize
from beichen.nn.lengthening import lengthen
from beichen.text.byte_pair_training import train_tokenizer
from beichen.text.tokenizer import Tokenizer
from beichen.train.adaptation import Adaptation, adapt
from beichen.train.material import Material, read_material, sources_of
from beichen.train.settings import TrainRecipe
from beichen.util.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that a run is made of, before the first step."""

    tokenizer: Tokenizer
    decoder: Decoder
    family: str
    material: Material
    adaptation: Adaptation | None = None  # adapters are trained, the rest is frozen


def prepare(recipe: TrainRecipe, *, device: torch.device, dtype: torch.dtype, reporter: Reporter) -> Parts:
    """Read, train or load everything the recipe names. Raises the errors of the parts, each naming its file or key."""
    if recipe.model.start_from is None:
        fresh_config(recipe, recipe.tokenizer.vocab_size)  # sizes that do not go together are said before text is read
    tokenizer = prepare_tokenizer(recipe, reporter)
    family, decoder = _decoder(recipe, tokenizer, device=device, dtype=dtype, reporter=reporter)
    if decoder.config.vocab_size < tokenizer.vocab_size:
        raise SettingsError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model only {decoder.config.vocab_size} embedding rows",
            remedy="use the tokenizer that the model was trained with",
        )
    adaptation = None
    if recipe.lora is not None and recipe.model.start_from is not None:
        adaptation = adapt(
            decoder, recipe.lora, start_from=recipe.model.start_from, family=family, seed=recipe.seed, reporter=reporter
        )  # fmt: skip
    material = read_material(recipe, tokenizer, reporter)
    return Parts(tokenizer=tokenizer, decoder=decoder, family=family, material=material, adaptation=adaptation)


def prepare_tokenizer(recipe: TrainRecipe, reporter: Reporter) -> Tokenizer:
    """The one that is named, else that of the model to go on from or of the encoded text, else the run's own, made of its training text."""
    sources, own = sources_of(recipe.data), Path(recipe.out) / "tokenizer"
    named = recipe.tokenizer.path or recipe.model.start_from
    if named is not None:
        return load_tokenizer(named)
    if recipe.data.encoded is not None:
        return load_tokenizer(open_encoded_text(recipe.data.encoded, verify=False).tokenizer)
    if own.exists():
        return load_tokenizer(own)
    if not recipe.training.running_text:
        raise SettingsError(f"tokenizer.path: {recipe.data.kind} need a tokenizer; name a folder that holds one, or model.start_from")
    for source in sources:  # said before a tokenizer is trained of it
        check_divisible(read_documents(source.files, on_bad=recipe.data.on_bad), recipe.data.held_out_fraction)
    documents = read_documents([file for source in sources for file in source.files], on_bad=recipe.data.on_bad)
    texts = (document.text for document in documents if split_position(document.text) >= recipe.data.held_out_fraction)
    wanted = recipe.tokenizer
    tokenizer = train_tokenizer(
        texts, vocab_size=wanted.vocab_size, pattern=wanted.pattern, template=wanted.template, reporter=reporter
    )  # fmt: skip
    tokenizer.save(own)
    return tokenizer


def _decoder(
    recipe: TrainRecipe, tokenizer: Tokenizer, *, device: torch.device, dtype: torch.dtype, reporter: Reporter
) -> tuple[str, Decoder]:  # fmt: skip
    if recipe.model.start_from is not None:
        checkpoint = load_checkpoint(
            recipe.model.start_from, device=device, dtype=dtype, compatibility=recipe.model.compatibility, reporter=reporter
        )  # fmt: skip
        if recipe.model.context_length is not None:
            lengthen(checkpoint.decoder, recipe.model.context_length)
        return checkpoint.family, checkpoint.decoder
    with torch.device("meta"):
        decoder = Decoder(fresh_config(recipe, tokenizer.vocab_size))
    decoder = decoder.to(dtype).to_empty(device=device)  # its memory is touched once: when it is filled
    initialize(decoder, recipe.seed)
    return recipe.model.family, decoder


def fresh_config(recipe: TrainRecipe, vocab_size: int) -> DecoderConfig:
    """The decoder of a fresh model, with the facts that its family fixes (biases, rope rule) from the family's tables."""
    model = recipe.model
    family = load_family(model.family, experts=model.experts is not None)
    config = family.new_config(
        vocab_size=vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_key_value_heads,
        intermediate_size=model.intermediate_size,
        max_position_embeddings=recipe.data.longest_row,
        tie_word_embeddings=model.tie_word_embeddings,
        experts=model.experts,
    )
    family.from_decoder_config(config)  # what the family has no keys for is an error now, not when the run is saved
    return family.compatible(config, model.compatibility)
