"""Where the tokens of a forward stand: what turns their queries and keys, what scales their queries, what each of them sees, and which
adapters move them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from beichen.nn.spans import Span
from beichen.nn.visibility import Visibility

BackendName = Literal["auto", "kernels", "documents", "flash", "varlen", "flex", "sdpa"]  # of ``attention_backends``


@dataclass(frozen=True)
class Places:
    """Made once a forward (``Decoder.places``), read by every layer."""

    cos: Tensor  # [rows or 1, tokens, head_dim / 2] float32
    sin: Tensor
    query_scale: Tensor | None = None  # [rows, tokens] float32; None: 1
    first_visible: Tensor | None = None  # [rows, tokens] int32, in columns; None: all from column 0
    backend: BackendName = "auto"  # how whole rows are attended
    spans: tuple[Span, ...] = ()  # in their order, apart from each other; tokens outside are the base's own

    @cached_property
    def seen(self) -> Visibility | None:
        """``first_visible`` in the forms that backends take."""
        return None if self.first_visible is None else Visibility(self.first_visible)
