"""Where the tokens of a forward stand: what turns their queries and keys, what scales their queries, and what each of them sees."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Made once a forward (``Decoder.places``), read by every layer."""

    cos: Tensor  # [rows or 1, tokens, head_dim / 2] float32
    sin: Tensor
    query_scale: Tensor | None = None  # [rows, tokens] float32; None: 1
    first_visible: Tensor | None = None  # [rows, tokens] int32, in columns; None: all from column 0
