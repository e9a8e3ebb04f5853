"""What a run of the main job was begun with, kept in its folder, so that one that was stopped goes on.

``quickstart.yaml`` is written once the plan is made, ``report.json`` at the very end: a folder with the first and without the second is
under way. Rule: such a run goes on by the plan that it was begun with, whatever the machine is measured to do now, and with no other
settings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from beichen.config import parse_settings, settings_as_yaml
from beichen.errors import SettingsError, StorageError
from beichen.quickstart.plan import Plan
from beichen.quickstart.report import REPORT
from beichen.quickstart.settings import QuickstartSettings
from beichen.util.files import write_atomically

BEGUN = "quickstart.yaml"
FREE_TO_CHANGE = ("out", "device", "threads")  # a run may go on elsewhere, on more cores


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What the run is to become, and how long the calls took that were stopped (one that was killed is not counted)."""

    folder: str  # as it was named; the stages name their files by it
    settings: QuickstartSettings
    plan: Plan
    seconds: float = 0.0

    def save(self) -> None:
        write_atomically(Path(self.folder) / BEGUN, settings_as_yaml(self))

    def check(self, folder: Path, asked: QuickstartSettings) -> None:
        """Raises what keeps a run from going on in ``folder`` with the settings that are asked for now."""
        if Path(self.folder).resolve() != folder.resolve():
            raise StorageError(
                f"--out {folder}: the run in it was begun as {self.folder}, and its stages name their files so",
                remedy=f"go on from where `--out {self.folder}` is that folder, or name a new folder",
            )
        pairs = {field.name: (getattr(self.settings, field.name), getattr(asked, field.name)) for field in fields(asked)}
        changed = [f"{key} was {then} and is {now}" for key, (then, now) in pairs.items() if key not in FREE_TO_CHANGE and then != now]
        if changed:
            raise SettingsError(
                f"--out {folder}: begun with other settings: {', '.join(changed)}",
                remedy=f"`beichen quickstart --out {folder}` goes on with those of the run; or name a new folder",
            )


def read_begun(folder: Path) -> Begun | None:
    """The run that is under way in a folder; ``None`` where there is none, or one that has ended."""
    if not (folder / BEGUN).exists() or (folder / REPORT).exists():
        return None
    return parse_settings(Begun, (), [folder / BEGUN])
