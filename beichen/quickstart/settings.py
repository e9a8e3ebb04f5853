"""What the user may say of the main job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from beichen.quickstart.plan import BUNDLED_MINUTES


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings:
    """What the user may say; everything else is planned from what the machine is measured to do."""

    out: str | None = None  # default: runs/quickstart-NNN
    corpus: tuple[str, ...] = ()  # default: text that the package generates
    dialogues: tuple[str, ...] = ()
    minutes: float = BUNDLED_MINUTES  # of training, both stages together
    family: str = "telechat2"  # whose architecture is trained
    experts: int = 0  # routed experts of each mixture layer; 0 = ordinary feed-forwards
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None  # default: by the measured matmul
    threads: int | None = None
