"""Training goes on at a longer length than before: what of a decoder's config changes with it.

For the rule of TeleChat2 (``scaled_stepped_ntk``) the trained length is all that changes: the base is stretched for it from the first
step on, and the larger scores that bridged the gap while it was not trained fall away.
"""

from __future__ import annotations

from dataclasses import replace

from beichen.errors import SettingsError
from beichen.nn.decoder import Decoder
from beichen.nn.rope import RopeTables


def lengthen(decoder: Decoder, length: int) -> None:
    """Make ``length`` the trained length of the decoder. Raises SettingsError where it is shorter than before."""
    config = decoder.config
    if length < config.max_position_embeddings:
        raise SettingsError(f"model.context_length={length}: the model was trained at {config.max_position_embeddings}, which is longer")
    rope = replace(config.rope, trained_length=length) if config.rope.trained_length else config.rope
    decoder.config = replace(config, max_position_embeddings=length, rope=rope)
    decoder.rope = RopeTables(rope, config.head_dim)
