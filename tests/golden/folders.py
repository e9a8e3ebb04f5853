"""Where the golden cases of this repository lie."""

from pathlib import Path

GOLDEN = Path(__file__).parent
