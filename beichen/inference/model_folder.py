"""A model's folder by its small files: where its weights are, its family, its tokenizer.

Whoever is about to read weights looks here first, so that a name that is wrong is told at once and not after minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from beichen.checkpoints.adapter_folder import is_adapter, read_adapter
from beichen.checkpoints.adapter_loading import find_base
from beichen.checkpoints.hubs import find_folder
from beichen.checkpoints.loading import load_config
from beichen.errors import SettingsError
from beichen.models.registry import load_family
from beichen.nn.config import DecoderConfig
from beichen.text.tokenizer import Tokenizer, read_tokenizer
from beichen.text.vocabulary_folder import holds_tokenizer
from beichen.util.progress import SILENT, Reporter


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """``path``: as it was named. ``weights``: the checkpoint, of an adapter its base. ``beside``: where a tokenizer would be."""

    path: Path
    weights: Path
    config: DecoderConfig
    family: str

    @property
    def holds_adapter(self) -> bool:
        return self.weights != self.path

    @property
    def beside(self) -> Path:
        return self.path if holds_tokenizer(self.path) else self.weights

    @property
    def chat_template(self) -> str | None:
        """The family's, for folders that name none."""
        return load_family(self.family).chat_template

    def tokenizer(self, *, template: str | None = None) -> Tokenizer | None:
        """Read anew. template: another chat format than the folder's. Raises TokenizerError and TemplateError."""
        if not holds_tokenizer(self.beside):
            return None
        return read_tokenizer(self.beside, template=template, default_template=self.chat_template)


def open_folder(folder: str | Path, *, base: str | Path | None = None, reporter: Reporter = SILENT) -> ModelFolder:
    """base: as for ``load``. Raises CheckpointError for what is not there, ConfigError for a model that is not understood."""
    path = weights = find_folder(folder, reporter=reporter)
    if is_adapter(path):
        weights = find_base(read_adapter(path), base, reporter=reporter)
    elif base is not None:
        raise SettingsError(f"base={base}: {path} holds no adapter, which alone has a base")
    config, _, family = load_config(weights)
    return ModelFolder(path=path, weights=weights, config=config, family=family)
