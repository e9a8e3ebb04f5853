"""Models by name: ``hf:org/name@revision`` and ``ms:org/name@revision`` become folders in the caches of the two hubs' own clients."""

from beichen.checkpoints.hubs.folders import find_folder, shown_name

__all__ = ["find_folder", "shown_name"]
