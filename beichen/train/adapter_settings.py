"""How a run trains adapters in place of all weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from beichen.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Low-rank adapters (LoRA) on a frozen base, model.start_from.

    patterns: which linear layers, by their published names: the end of a name (q_proj, mlp.down_proj), a whole name with *, or all-linear.
    rank, alpha: an adapter is B A times alpha / rank, or alpha / sqrt(rank) with rslora. ranks: of the layers that a pattern means; later
    ones win. dropout: share of an adapter's inputs left out while training. dora: the length of each row is learnt as well.
    start_from: folder of an adapter to go on from; patterns, ranks, alpha, rslora and dora then come from it.
    base_format: how the frozen matrices are held: as they are, or quantized (8 or 4 bits a weight), the rest in the run's dtype.
    """

    patterns: tuple[str, ...] = ("all-linear",)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    ranks: dict[str, int] = field(default_factory=dict)
    start_from: str | None = None
    base_format: Literal["full", "int8", "nf4"] = "full"

    def __post_init__(self) -> None:
        if not self.patterns:
            raise SettingsError("lora.patterns: empty; name the layers to adapt, or all-linear")
        for key, rank in {"rank": self.rank, **{f"ranks: {pattern}": rank for pattern, rank in self.ranks.items()}}.items():
            if rank < 1:
                raise SettingsError(f"lora.{key}={rank}: must be at least 1")
        if self.alpha <= 0:
            raise SettingsError(f"lora.alpha={self.alpha}: must be above 0")
        if not 0.0 <= self.dropout < 1.0:
            raise SettingsError(f"lora.dropout={self.dropout}: must be at least 0 and below 1")
