"""docs/serving.md and its Chinese twin: flags, fields, figures and faults are all named, examples are the same and can be read."""

from __future__ import annotations

import argparse
import re

import pytest

from beichen.cli.serve import add_arguments
from beichen.inference.language_model import LanguageModel
from beichen.serve.app import create_app
from beichen.serve.schemas.chat import ChatRequest
from beichen.serve.schemas.completions import CompletionRequest
from beichen.serve.service import Service
from tests.inference.small_models import small_decoder, small_tokenizer
from tests.shared_data import REPOSITORY

PAGES = {name: (REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("serving.md", "serving.zh.md")}
ELSEWHERE = {"--help", "--threads", "--device", "--dtype", "--compatibility", "--base", "--template"}  # of every command that loads a model
UNREAD = {
    "add_generation_prompt",
    "messages",
    "prompt",
    "suffix",
    "modalities",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
}
ANCHOR = re.compile(r"\]\(#([^)]+)\)")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code without comments) of every example."""
    return [(kind, re.sub(r" *# .*", "", code)) for kind, code in re.findall(r"```(\w*)\n(.*?)```", PAGES[page], re.DOTALL)]


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_is_named(page):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    assert flags - ELSEWHERE - set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGES[page])) == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_field_of_a_request_is_named(page):
    fields = {*ChatRequest.model_fields, *CompletionRequest.model_fields}
    assert [name for name in sorted(fields - UNREAD) if f"`{name}`" not in PAGES[page]] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_is_named(page):
    service = Service(LanguageModel(small_decoder(), small_tokenizer(), family="telechat2"), "small")
    paths = create_app(service, original_paths=True).openapi()["paths"]
    named = {re.sub(r"\{(\w+)\}", lambda place: place[1].upper(), path) for path in paths}
    assert "/v1/models/NAME" in named
    assert not {path for path in named if not re.search(rf"{re.escape(path)}(?![\w/])", PAGES[page])}


@pytest.mark.parametrize("page", PAGES)
def test_every_code_of_a_fault_is_named(page):
    sources = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "beichen" / "serve").rglob("*.py"))
    codes = {*re.findall(r'code="(\w+)"', sources), *re.findall(r'return "\w+_error", "(\w+)", \d{3}', sources)}
    assert len(codes) > 10
    assert [code for code in sorted(codes | {"not_found", "method_not_allowed"}) if f"`{code}`" not in PAGES[page]] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_page_lead_to_headings(page):
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    assert set(ANCHOR.findall(PAGES[page])) - slugs == set() and len(slugs) > 15


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_can_be_read(page):
    codes = [code for kind, code in blocks(page) if kind == "python"]
    assert len(codes) == 3
    for code in codes:
        compile(code, page, "exec")


def test_both_pages_show_the_same():
    english, chinese = (blocks(page) for page in PAGES)
    assert english == chinese
