"""What a family that stock ``transformers`` runs too must hold, for one random model of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from beichen.checkpoints.loading import load_checkpoint
from beichen.checkpoints.saving import save_checkpoint
from beichen.inference.api import Request
from beichen.inference.generation import DecoderGenerator

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}


def random_model(config: type, model: type, **keys: Any) -> Any:
    """Weights far from zero, so that each fact shows."""
    torch.manual_seed(0)
    theirs = model(config(**{**SIZES, "num_attention_heads": 4, **keys})).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.3)
    return theirs


def tensors_in(folder: Path) -> dict[str, Tensor]:
    """All tensors of all shards, by published name."""
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def equal_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, formats and bits."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor.view(torch.uint8), other[name].view(torch.uint8))
        for name, tensor in one.items()
    )


@torch.no_grad()
def check_both_directions(theirs: Any, family: str, folder: Path) -> None:
    """Their files give their logits here; ours, from ours alone, give them there; saved again they are bit for bit the same."""
    theirs.save_pretrained(folder / "theirs")
    ids = torch.randint(0, SIZES["vocab_size"], (2, 40))
    loaded = load_checkpoint(folder / "theirs")
    assert loaded.family == family
    save_checkpoint(folder / "ours", loaded.decoder, family=family)  # in our words, not theirs
    save_checkpoint(folder / "again", loaded.decoder, family=family, published=loaded.published, source=folder / "theirs")
    expected = theirs(ids).logits
    assert (loaded.decoder.logits(loaded.decoder(ids)) - expected).abs().max() < 2e-5
    back = type(theirs).from_pretrained(folder / "ours").eval()
    assert torch.equal(back(ids).logits, expected)
    assert equal_bits(tensors_in(folder / "theirs"), tensors_in(folder / "again"))


@torch.no_grad()
def check_generation(theirs: Any, folder: Path) -> None:
    """Greedy answers to prompts of unequal length: ours in one padded batch with prompts read in pieces, theirs one by one."""
    theirs.save_pretrained(folder)
    prompts = [torch.randint(0, SIZES["vocab_size"], (length,)).tolist() for length in (3, 17, 9, 25)]
    generator = DecoderGenerator(load_checkpoint(folder).decoder, None, max_rows=4, step_tokens=24)
    answers = generator.generate([Request(prompt_ids=prompt, max_new_tokens=12) for prompt in prompts])
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        for _ in range(12):
            ids = torch.cat((ids, theirs(ids).logits[:, -1:].argmax(-1)), dim=1)
        assert list(answer.ids) == ids[0, len(prompt) :].tolist()
