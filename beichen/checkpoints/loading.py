"""A checkpoint folder in published layout -> a decoder.

Names and shapes are compared before anything is read; then each published tensor is copied straight into its place in ours,
so that memory holds the model and one tensor, also of a model that is quantized as it comes. Missing, extra and mis-shaped tensors are
listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beichen.checkpoints.assembling import Assembly
from beichen.checkpoints.hubs import find_folder, shown_name
from beichen.checkpoints.listing import listed
from beichen.checkpoints.published_files import CONFIG
from beichen.checkpoints.reading import WeightFiles, open_shard, read_config, read_json
from beichen.errors import CheckpointError, ConfigError
from beichen.models.naming import NameTable
from beichen.models.registry import family_of, load_family
from beichen.nn.config import DecoderConfig
from beichen.nn.decoder import Decoder
from beichen.nn.quantized import Kind
from beichen.util.progress import SILENT, Reporter


class Checkpoint(NamedTuple):
    """A loaded folder: the decoder, and what the folder said it was."""

    decoder: Decoder
    published: dict[str, Any]
    family: str


def load_config(folder: Path | str) -> tuple[DecoderConfig, dict[str, Any], str]:
    """(decoder config, published config, family) of a folder, or of a config file alone, without weights."""
    folder = find_folder(folder, weights=False)
    file = folder if folder.is_file() else folder / CONFIG
    published = read_json(file) if folder.is_file() else read_config(folder)
    try:
        family = family_of(published)
        return load_family(family).to_decoder_config(published), published, family
    except ConfigError as error:
        message = str(error.args[0])
        where = f"{file.parent}/" if file.name == CONFIG and message.startswith(CONFIG) else f"{file}: "
        raise type(error)(where + message, remedy=error.remedy) from error


def load_checkpoint(
    folder: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, compatibility: Iterable[str] = (),
    quantize: Kind | None = None, reporter: Reporter = SILENT,
) -> Checkpoint:  # fmt: skip
    """Load a folder in published layout, or a model by name; ``dtype`` None keeps the number format of the files.

    compatibility: names of the family's ``Compatibility`` entries, faults of the original to be computed with. quantize: how matrices of
    linear layers are held; a head of its own is in 8 bits then, where codes are multiplied as they are (bf16 on a CPU); embedding, norms
    and routers stay as they are.
    """
    folder = find_folder(folder, reporter=reporter)
    config, published, family = load_config(folder)
    config = load_family(family).compatible(config, compatibility)
    names = load_family(family).names
    check_tokenizer_size(folder, config.vocab_size)
    if config.attention_dropout or config.hidden_dropout:
        reporter.warn(
            f"{shown_name(folder)}: its config trains with dropout (attention {config.attention_dropout}, hidden {config.hidden_dropout})"
        )
    files = WeightFiles(folder)
    with torch.device("meta"):
        decoder = Decoder(config)
    bare = names.omits_prefix(files.where)
    layout = names.views(decoder.state_dict(), config, bare=bare)
    copies = stored_copies(files.where, names, config)
    stored = compare_files(files, {name: view.shape for name, view in layout.items()}, copies, names)
    assembly = Assembly(decoder, names, layout, bare=bare, dtype=dtype or widest(stored), device=device, quantize=quantize)
    with reporter.track(f"loading {shown_name(folder)}", total=len(layout), unit="tensors") as task:
        for path, held in files.shards():
            with open_shard(path) as shard:
                for name in held:
                    if name in layout:
                        assembly.fill(name, shard.tensor(name))
                        task.advance()
            del shard  # before the next one is opened: one that cannot be mapped is held whole
    for name, embedding in copies.items():
        _check_copy(files, name, assembly.published(embedding), folder)
    for parameter in decoder.parameters():
        parameter.requires_grad_(True)
    return Checkpoint(decoder=decoder.eval(), published=published, family=family)


def check_tokenizer_size(folder: Path, vocab_size: int) -> None:
    """A tokenizer in the folder must not know ids for which the embedding has no row."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    tokenizer = read_json(path)
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary or ())))
    ids += [entry.get("id", 0) for entry in tokenizer.get("added_tokens") or () if isinstance(entry, dict)]
    largest = max((number for number in ids if isinstance(number, int)), default=-1)
    if largest >= vocab_size:
        raise CheckpointError(
            f"{path}: its largest id is {largest}, but the embedding has only {vocab_size} rows (vocab_size in config.json)",
            remedy="the tokenizer belongs to another model; put the right tokenizer files into the folder",
        )


def stored_copies(stored: Iterable[str], names: NameTable, config: DecoderConfig) -> dict[str, str]:
    """What files with these tensor names hold twice: {tied head: embedding}."""
    stored = set(stored)
    if not config.tie_word_embeddings or names.head not in stored:
        return {}
    return {names.head: names.embedding.removeprefix(names.optional_prefix) if names.omits_prefix(stored) else names.embedding}


def compare_files(
    files: WeightFiles, wanted: Mapping[str, tuple[int, ...]], copies: Mapping[str, str], names: NameTable
) -> set[torch.dtype]:  # fmt: skip
    """Compare names, shapes and kinds of numbers, and list all faults at once; forgets what carries no weights.  -> number formats found"""
    faults = {"missing": [name for name in wanted if name not in files.where], "unexpected": [], "of another shape": [], "no floats": []}
    faults["unexpected"] = [name for name in files.where if not (name in wanted or name in copies or names.is_ignorable(name))]
    files.where = {name: path for name, path in files.where.items() if name in wanted or name in copies}
    dtypes: set[torch.dtype] = set()
    for path, held in files.shards():
        with open_shard(path) as shard:
            inside = set(shard.names())
            for name in held:
                if name not in inside:
                    faults["missing"].append(f"{name} (not in {path.name}, where the index says it is)")
                elif name in wanted and shard.shape(name) != wanted[name]:
                    shapes = f"{list(shard.shape(name))}, config.json asks for {list(wanted[name])}"
                    faults["of another shape"].append(f"{name} in {path.name} is {shapes}")
                elif not shard.dtype(name).is_floating_point:
                    faults["no floats"].append(f"{name} in {path.name} holds {shard.dtype(name)}")
                else:
                    dtypes.add(shard.dtype(name))
        del shard
    if any(faults.values()):
        lines = [f"\n  {len(found)} {kind}:\n    " + "\n    ".join(listed(found)) for kind, found in faults.items() if found]
        raise CheckpointError(
            f"{files.folder}: its tensors are not those that its config.json asks for" + "".join(lines),
            remedy=f"config.json belongs to another model or size, or a shard is another's; `beichen inspect {files.folder}` shows both",
        )
    return dtypes


def _check_copy(files: WeightFiles, name: str, embedding: Tensor, folder: Path) -> None:
    with open_shard(files.where[name]) as shard:
        stored = shard.tensor(name)
    if stored.shape != embedding.shape or not torch.equal(stored.to(embedding), embedding):
        raise CheckpointError(
            f"{folder}: config.json ties the head to the embedding, but {name} differs from it", remedy='set "tie_word_embeddings": false'
        )


def widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The narrowest format that holds all of them; 8-bit floats are for storage only."""
    widest = None
    for dtype in sorted(dtypes, key=str):
        computable = torch.bfloat16 if dtype.itemsize == 1 else dtype
        widest = computable if widest is None else torch.promote_types(widest, computable)
    return widest or torch.float32
