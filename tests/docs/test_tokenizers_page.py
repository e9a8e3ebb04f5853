"""docs/tokenizers.md and its Chinese twin name every chat format, and show the same commands."""

import re

import pytest

from beichen.text.chat_template import template_names
from beichen.text.jinja_template import JINJA
from tests.shared_data import REPOSITORY

PAGES = [(REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("tokenizers.md", "tokenizers.zh.md")]


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh"])
def test_every_format_has_its_row(page):
    table = page.split("| `--template` |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`([\w.-]+)`", row.split("|")[1] if "|" in row else "")]
    assert sorted(named) == sorted([*template_names(), JINJA])


def test_both_pages_show_the_same_code():
    def code(page: str) -> list[str]:
        return [line.split("#")[0] for line in "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()]

    assert code(PAGES[0]) == code(PAGES[1])
