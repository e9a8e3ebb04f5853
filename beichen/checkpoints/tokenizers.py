"""The tokenizer of a folder, or of a model by name, whose weights are then not fetched."""

from __future__ import annotations

from pathlib import Path

from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import load_config
from beichen.checkpoints.published_files import CONFIG
from beichen.errors import ConfigError
from beichen.models.registry import load_family
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.util.progress import SILENT, Reporter


def load_tokenizer(place: str | Path, *, template: str | None = None, reporter: Reporter = SILENT) -> Tokenizer:
    """The tokenizer, with its model's chat format where a config names the family; ``template`` chooses another by name."""
    folder = find_folder(place, weights=False, reporter=reporter)
    return read_tokenizer(folder, template=template, default_template=_usual_template(folder))


def _usual_template(folder: Path) -> str | None:
    if not (folder / CONFIG).exists():
        return None
    try:
        return load_family(load_config(folder)[2]).chat_template
    except ConfigError:  # a model that we cannot run may still have a tokenizer that we can
        return None
