"""Every Markdown page: code fences come in pairs, so that no prose is shown as code; links lead to files that are there."""

from __future__ import annotations

import re

import pytest

from tests.shared_data import REPOSITORY

FOLDERS = ("beichen", "docs", "recipes", "tests")
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("bench/*.md"), *(page for name in FOLDERS for page in (REPOSITORY / name).rglob("*.md"))]
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def faults_of_fences(text: str) -> list[str]:
    """What is wrong with the fences of a page: a closing one with words behind it, or an opening one that nothing closes."""
    opened, faults = "", []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        marks, rest = fence[1], fence[2].strip()
        if not opened:
            opened, begun = marks, number
        elif marks[0] == opened[0] and len(marks) >= len(opened):
            if rest:
                faults.append(f"line {number}: a fence opens inside the one of line {begun}")
            opened = ""
    return [*faults, f"line {begun}: nothing closes this fence"] if opened else faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_fences_come_in_pairs(page):
    assert faults_of_fences(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a\n```sh\nb\n```\n", []),
        ("```text\na\n```\nb\n```\n", ["line 5: nothing closes this fence"]),
        ("```\na\n```sh\nb\n```\n", ["line 3: a fence opens inside the one of line 1", "line 5: nothing closes this fence"]),
        ("~~~\n```\n~~~\n", []),
    ],
)
def test_fences_that_do_not_pair_are_found(text, faults):
    assert faults_of_fences(text) == faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_that_are_there(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
