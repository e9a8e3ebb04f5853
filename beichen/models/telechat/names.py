"""TeleChat's published tensors are those of TeleChat2; the 7B files leave out the prefix and have no head (it is tied)."""

from beichen.models.telechat2.names import NAMES

__all__ = ["NAMES"]
