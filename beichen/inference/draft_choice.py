"""Who guesses several ids ahead for a model: the text itself, or a smaller model with the same vocabulary."""

from __future__ import annotations

from pathlib import Path

from beichen.errors import SettingsError
from beichen.inference.drafting import Drafting, TextDrafter
from beichen.inference.language_model import LanguageModel, load
from beichen.inference.model_drafter import ModelDrafter
from beichen.inference.model_folder import open_folder
from beichen.text.tokenizer import Tokenizer
from beichen.util.progress import SILENT, Reporter


def drafting_from_text(*, tokens: int) -> Drafting:
    """tokens: guessed at a time."""
    return Drafting(drafter=TextDrafter(), tokens=tokens)


def check_draft(folder: Path, tokenizer: Tokenizer, *, origin: Path | None) -> None:
    """tokenizer: of the model to guess for, which is in ``origin``. Reads no weights. Raises SettingsError for a folder that is not there,
    or of other tokens."""
    if not folder.is_dir():
        raise SettingsError(f"draft_model={folder}: expected the folder of a small model", remedy="there is no such folder")
    small = open_folder(folder).tokenizer()
    if small is None or small.fingerprint != tokenizer.fingerprint:
        raise SettingsError(
            f"draft_model={folder}: its tokenizer is not that of {origin}, so its ids mean other texts",
            remedy="take a small model of the same family, or guess from the text itself",
        )


def drafting_by_model(model: LanguageModel, folder: Path, *, tokens: int, reporter: Reporter = SILENT) -> Drafting:
    """folder: of the smaller model; tokens: guessed at a time. Raises SettingsError for a model of other tokens."""
    check_draft(folder, model.tokenizer, origin=model.folder)
    small = load(folder, device=model.device, dtype=model.decoder.dtype, reporter=reporter)
    known = min(model.config.vocab_size, model.tokenizer.vocab_size)
    return Drafting(drafter=ModelDrafter(small.decoder, vocab_size=known), tokens=tokens)
