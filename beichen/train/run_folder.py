"""The folder of a run: what stands in it under which name, and whether a recipe may go on in it.

settings.yaml, plan.json and metrics.jsonl; tokenizer/, encoded/ and reference/ where the run makes them; state/ while it lasts; best/ where
asked; at the end config, weights and tokenizer of the model (or an adapter), and result.json.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from beichen.checkpoints.adapter_folder import is_adapter
from beichen.config import parse_settings, settings_as_dict
from beichen.errors import SettingsError
from beichen.train.settings import TrainRecipe
from beichen.util.files import LOCK

SETTINGS, METRICS, RESULT = "settings.yaml", "metrics.jsonl", "result.json"
STATE, PLAN, BEST = "state", "plan.json", "best"
# settings that a resumed run may give anew
FREE_TO_CHANGE = ("out", "budget", "checkpoint", "guards", "evaluation", "trackers", "profile", "threads", "device")


class FalseStart:
    """``with`` it, made before the folder is: a run that fails before it has made anything but its settings leaves the place as it was."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._missing = [folder for folder in (out, *out.parents) if not folder.exists()]
        self._before = {entry.name for entry in out.iterdir()} if out.is_dir() else set()

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *fault: object) -> None:
        if kind is None or not {entry.name for entry in self._out.iterdir()} <= self._before | {SETTINGS, LOCK}:
            return
        for name in {SETTINGS, LOCK} - self._before:
            (self._out / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another process has put something there
            for folder in self._missing:
                folder.rmdir()


def continues(recipe: TrainRecipe, out: Path) -> bool:
    """Whether ``out`` holds a run of these settings that was begun. A finished run, or steps of one with others, is refused."""
    if (out / "config.json").exists() or is_adapter(out):
        raise SettingsError(f"out: {out} holds a finished run", remedy="give another folder, or go on from it with model.start_from")
    if not (out / SETTINGS).exists():
        return False
    before = settings_as_dict(parse_settings(TrainRecipe, (), [out / SETTINGS]))
    now = settings_as_dict(recipe)
    changed = [key for key in now if key not in FREE_TO_CHANGE and now[key] != before[key]]
    if changed and ((out / STATE).exists() or ((out / METRICS).exists() and (out / METRICS).stat().st_size)):
        raise SettingsError(
            f"out: {out} holds a run with other settings ({', '.join(changed)})", remedy="give another folder, or the settings of that run"
        )
    return not changed
