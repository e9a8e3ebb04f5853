"""The part of docs/models.md that ``beichen models`` prints: ``python -m tests.docs.models_page`` writes it into both pages."""

from __future__ import annotations

import contextlib
import io
import re

from beichen.cli.main import main
from tests.shared_data import REPOSITORY

PAGES = [REPOSITORY / "docs" / name for name in ("models.md", "models.zh.md")]
BLOCK = re.compile(r"<!-- beichen models -->\n```text\n(.*?)```", re.DOTALL)


def printed() -> str:
    """What the command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["models"]) == 0
    return out.getvalue()


if __name__ == "__main__":
    block = f"<!-- beichen models -->\n```text\n{printed()}```"
    for page in PAGES:
        page.write_text(BLOCK.sub(lambda _: block, page.read_text(encoding="utf-8")), encoding="utf-8")
